"""The tag gate as this process sees it: which tags are armed in the kernel, and whose each one is.

For every holder of a secret (a device's credential, an invite) a few tags are armed in every window that the allowed
clock skew covers. The kernel deletes a tag in the act of admitting it and drops all else; this side keeps the same tags
to know, without trying any key, whose datagram has come. It must not know what a datagram says.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from spa_protocol.keys import Channel, ChannelKeys
from spa_protocol.limits import MAX_SLOTS
from spa_protocol.tag import CLOCK_SKEW_MS, CLOCK_SLOTS, TagKind, TagPosition, compute_tag

LEAD_MS = 2_000
"""How long before it is needed a window is armed, so that a late wake-up costs no knock."""


class Kernel(Protocol):
    """The part of the firewall process that arms and disarms tags."""

    def arm(self, tags: Collection[bytes], timeout_ms: int) -> None:
        """Let each tag pass once within that time."""

    def disarm(self, tags: Collection[bytes]) -> None:
        """Let these tags pass no more."""


@dataclass(frozen=True, slots=True, order=True)
class HolderId:
    """Whose tag: a credential, its delegates or an invite, by its number in the registry."""

    channel: Channel
    number: int

    def used_as(self, slot: int) -> int:
        """The number under which a slot of this holder is recorded as used: delegates' come after the device's own."""
        return slot + MAX_SLOTS if self.channel is Channel.DELEGATE else slot


@dataclass(frozen=True, slots=True)
class ArmedTag:
    """A tag that was armed: whose it is and where it stands."""

    holder: HolderId
    position: TagPosition


@dataclass(frozen=True, slots=True)
class Slots:
    """How many tags of each window are armed: for a device or an invite, and for all delegates of a device."""

    device: int
    delegates: int

    def of(self, channel: Channel, kind: TagKind) -> int:
        """The slots of one holder."""
        if channel is Channel.DELEGATE:
            return self.delegates if kind is TagKind.KNOCK else 0
        return self.device if kind is TagKind.KNOCK else CLOCK_SLOTS


UsedInWindow = Callable[[int], Collection[tuple[int, int]]]
"""The (credential, slot) pairs that were used in a knock window."""
_Window = tuple[TagKind, int]
_Tags = dict[bytes, tuple[HolderId, int]]


class Gate:
    """Arms tags as time passes and holders come and go; tells whose a tag is, once."""

    def __init__(self, kernel: Kernel, *, slots: Slots, max_skew_ms: int, used: UsedInWindow) -> None:
        self._kernel = kernel
        self._used = used
        self._slots = slots
        self._skew_ms = {TagKind.KNOCK: max_skew_ms, TagKind.CLOCK: CLOCK_SKEW_MS}
        self._holders: dict[HolderId, ChannelKeys] = {}
        self._armed: dict[_Window, _Tags] = {}

    def __len__(self) -> int:
        """How many tags are armed and not yet taken."""
        return sum(map(len, self._armed.values()))

    @property
    def capacity(self) -> int:
        """How many knock slots there are in all the windows that can be live at one time: so many can be used."""
        window_ms = TagKind.KNOCK.window_s * 1000
        windows = 2 * (self._skew_ms[TagKind.KNOCK] + LEAD_MS) // window_ms + 2
        return windows * sum(self._slots.of(holder.channel, TagKind.KNOCK) for holder in self._holders)

    def take(self, tag: bytes) -> ArmedTag | None:
        """Whose tag it is, the first time it is asked; None for a tag that is not armed, or was taken."""
        for (kind, window), tags in self._armed.items():
            found = tags.pop(tag, None)
            if found is not None:
                holder, slot = found
                return ArmedTag(holder, TagPosition(kind, window, slot))
        return None

    def renew(self, now_ms: int, first_window: int = 0) -> None:
        """Arm the windows that have come near and forget those that are over.

        `first_window`: no knock window before it is armed (the fence after a boot).
        """
        needed = self._needed(now_ms, first_window)
        for key in [key for key in self._armed if key not in needed]:
            del self._armed[key]
        for key in needed:
            if key not in self._armed:
                # Only what the kernel has confirmed counts as armed; the rest is tried again at the next renewal.
                self._armed[key] = self._arm(key, self._holders, now_ms)

    def follow(self, *, slots: Slots, max_skew_ms: int) -> bool:
        """Go by other numbers of slots and another skew, from the next `rearm` on; whether that is a change."""
        before = self._slots, self._skew_ms[TagKind.KNOCK]
        self._slots, self._skew_ms[TagKind.KNOCK] = slots, max_skew_ms
        return before != (slots, max_skew_ms)

    def rearm(self, now_ms: int, first_window: int = 0) -> None:
        """Arm everything anew after the clock was stepped: the timeouts in the kernel count from the old time."""
        for tags in self._armed.values():
            self._kernel.disarm(tags)
        self._armed.clear()
        self.renew(now_ms, first_window)

    def restore(self, now_ms: int, first_window: int = 0) -> None:
        """Arm what is armed once more, because the kernel has lost it. What was taken stays taken."""
        for key in self._needed(now_ms, first_window):
            if self._armed.get(key):
                self._kernel.arm(self._armed[key], self._timeout_ms(key, now_ms))

    def set_holders(self, holders: Mapping[HolderId, ChannelKeys], now_ms: int, first_window: int = 0) -> None:
        """Disarm the tags of those who are gone and arm those of who has come."""
        gone = self._holders.keys() - holders.keys()
        if gone:
            for tags in self._armed.values():
                void = [tag for tag, (holder, _) in tags.items() if holder in gone]
                for tag in void:
                    del tags[tag]
                self._kernel.disarm(void)
            self._holders = {holder: keys for holder, keys in self._holders.items() if holder not in gone}
        come = {holder: keys for holder, keys in holders.items() if holder not in self._holders}
        for key, tags in self._armed.items():
            tags.update(self._arm(key, come, now_ms))
        self._holders = dict(holders)
        self.renew(now_ms, first_window)

    def next_renewal_ms(self, now_ms: int) -> int:
        """The time at which the next window comes near."""
        horizon_ms = [now_ms + self._skew_ms[kind] + LEAD_MS for kind in TagKind]
        return min(
            kind.ends_ms(kind.window(horizon)) - self._skew_ms[kind] - LEAD_MS
            for kind, horizon in zip(TagKind, horizon_ms, strict=True)
        )

    def _needed(self, now_ms: int, first_window: int) -> list[_Window]:
        needed = [
            (kind, window)
            for kind in TagKind
            for window in kind.covering(now_ms, self._skew_ms[kind] + LEAD_MS)
            if kind is not TagKind.KNOCK or window >= first_window
        ]
        # The window of the present minute is asked for most, so it is looked at first.
        return sorted(needed, key=lambda key: (key[0].code, abs(key[1] - key[0].window(now_ms))))

    def _arm(self, key: _Window, holders: Mapping[HolderId, ChannelKeys], now_ms: int) -> _Tags:
        kind, window = key
        timeout_ms = self._timeout_ms(key, now_ms)
        if timeout_ms <= 0 or not holders:
            return {}
        # After a restart or a step of the clock, what was used stays shut: a replay is met with silence then, too.
        used = self._used(window) if kind is TagKind.KNOCK else frozenset()
        tags = {
            compute_tag(keys, TagPosition(kind, window, slot)): (holder, slot)
            for holder, keys in holders.items()
            for slot in range(self._slots.of(holder.channel, kind))
            if holder.channel is Channel.INVITE or (holder.number, holder.used_as(slot)) not in used
        }
        self._kernel.arm(tags, timeout_ms)
        return tags

    def _timeout_ms(self, key: _Window, now_ms: int) -> int:
        """How long the tags of a window are to live in the kernel."""
        kind, window = key
        return kind.ends_ms(window) + self._skew_ms[kind] + LEAD_MS - now_ms
