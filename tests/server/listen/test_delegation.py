"""A delegated knock: honoured by the certificate in it, for what the device itself may open, and never longer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from spa_protocol.delegation import Certificate, delegate_secret, issue
from spa_protocol.keys import Channel, ChannelKeys, derive, public_key
from spa_protocol.knock import Action, Knock, seal_knock
from spa_protocol.limits import DELEGATE_SLOTS
from spa_protocol.refusal import Refusal
from spa_protocol.seal import Domain, seal
from spa_protocol.signature import SeedSigner
from spa_protocol.tag import TagKind, TagPosition, compute_tag
from tests.server.listen.verdicts import verdict
from tests.server.listen.world import IDENTITY, RULES, START, Keyring, ListeningServer, _answer, later, nonce, secret

NOW_S = START.wall_s
WEB = ("web",)


@dataclass(frozen=True, slots=True)
class Delegate:
    """Who was given a certificate."""

    seed: bytes
    channel: ChannelKeys
    certificate: Certificate

    @classmethod
    def of(
        cls,
        device: Keyring,
        name: str = "ci",
        services: tuple[str, ...] = WEB,
        *,
        issued_s: int = NOW_S,
        for_s: int = 600,
        signed_by: bytes | None = None,
        server: bytes = IDENTITY.public,
    ) -> Delegate:
        seed = secret(f"delegate {name}")
        certificate = issue(
            SeedSigner(signed_by or device.seed),
            server,
            key=public_key(seed),
            name=name,
            services=services,
            issued_s=issued_s,
            expires_s=issued_s + for_s,
        )
        return cls(seed, derive(delegate_secret(device.gate_secret), Channel.DELEGATE), certificate)

    def knock(self, slot: int = 0, *names: str, time_ms: int = START.wall_ms, **changes: object) -> bytes:
        knock = replace(Knock(time_ms, names, certificate=self.certificate), **changes)  # type: ignore[arg-type]
        return seal_knock(
            knock,
            keys=self.channel,
            signer=SeedSigner(self.seed),
            server_identity=IDENTITY.public,
            slot=slot,
            nonce=nonce(knock, slot),
        )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ListeningServer]:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    made = ListeningServer(folder, START, delegate_slots=DELEGATE_SLOTS)
    yield made
    made.close()


@pytest.fixture
def alice(server: ListeningServer) -> Keyring:
    return server.add("alice-laptop")


def said(server: ListeningServer, delegate: Delegate, datagram: bytes, after_ms: int = 0) -> Refusal | str:
    reply = server.hear(datagram, later(START, after_ms))
    answer = _answer(reply, datagram, delegate.channel)
    return "silence" if answer is None else answer.refusal or "granted"


def test_a_delegate_is_let_in_by_its_certificate_alone_under_a_name_of_its_own(
    server: ListeningServer, alice: Keyring
) -> None:
    delegate = Delegate.of(alice)
    knock = delegate.knock()
    answer = _answer(server.hear(knock, START), knock, delegate.channel)
    assert answer is not None
    assert answer.refusal is None
    assert (answer.about, answer.slots, [each.name for each in answer.services]) == (
        "alice-laptop+ci",
        DELEGATE_SLOTS,
        ["web"],
    )
    ((grant, label),) = server.firewall.granted
    assert label == "alice-laptop+ci"
    assert [item.service.name for item in grant.services] == ["web"]


def test_it_is_on_record_as_by_whom_for_whom(server: ListeningServer, alice: Keyring) -> None:
    delegate = Delegate.of(alice)
    said(server, delegate, delegate.knock())
    (event,) = server.records.events
    assert (event.device, event.delegate, event.user) == ("alice-laptop", "ci", "user")
    assert "ci for alice-laptop" in event.message
    (seen,) = server.delegations.seen()
    assert (seen.device, seen.name, seen.services, seen.revoked) == ("alice-laptop", "ci", WEB, False)


def test_no_lease_outlives_the_certificate(server: ListeningServer, alice: Keyring) -> None:
    delegate = Delegate.of(alice, issued_s=NOW_S - 590)
    assert said(server, delegate, delegate.knock(0, lease_s=300)) == "granted"
    ((grant, _),) = server.firewall.granted
    (item,) = grant.services
    assert item.lease_s == (delegate.certificate.expires_s * 1000 - START.wall_ms) // 1000 < 11


@pytest.mark.parametrize(
    ("after_ms", "expected"), [(0, "granted"), (598_000, "granted"), (600_000, Refusal.DELEGATION_EXPIRED)]
)
def test_it_is_good_until_its_time_and_not_after(
    server: ListeningServer, alice: Keyring, after_ms: int, expected: Refusal | str
) -> None:
    delegate = Delegate.of(alice)
    server.membership.keep_time(later(START, after_ms))
    knock = delegate.knock(time_ms=START.wall_ms + after_ms)
    assert said(server, delegate, knock, after_ms) == expected


def test_one_from_the_future_is_not_good_yet(server: ListeningServer, alice: Keyring) -> None:
    skew_s = RULES.max_skew_ms // 1000
    soon, too_early = (Delegate.of(alice, issued_s=NOW_S + after_s) for after_s in (skew_s, skew_s + 2))
    assert said(server, soon, soon.knock(0)) == "granted"
    assert said(server, too_early, too_early.knock(1)) is Refusal.DELEGATION_EXPIRED


def test_one_that_runs_for_longer_than_is_allowed_opens_nothing(server: ListeningServer, alice: Keyring) -> None:
    for for_s, expected in (
        (RULES.max_delegation_s, "granted"),
        (RULES.max_delegation_s + 1, Refusal.DELEGATION_TOO_LONG),
    ):
        delegate = Delegate.of(alice, for_s=for_s)
        assert said(server, delegate, delegate.knock(for_s % DELEGATE_SLOTS)) == expected


def test_it_never_opens_more_than_the_certificate_names_nor_than_the_device_may(server: ListeningServer) -> None:
    guest = server.add("guest-laptop", roles=("guest",))
    delegate = Delegate.of(guest, services=("web", "ssh"))
    assert said(server, delegate, delegate.knock(0)) is Refusal.SERVICE_NOT_ALLOWED
    assert said(server, delegate, delegate.knock(1, "media")) is Refusal.SERVICE_NOT_DELEGATED
    unknown = Delegate.of(guest, services=("nowhere",))
    assert said(server, unknown, unknown.knock(2)) is Refusal.UNKNOWN_SERVICE
    assert server.firewall.granted == []


def test_it_ends_with_the_device(server: ListeningServer, alice: Keyring) -> None:
    delegate = Delegate.of(alice)
    server.registry.set_enabled("alice-laptop", False)
    assert said(server, delegate, delegate.knock(0)) is Refusal.DEVICE_DISABLED
    server.registry.remove("alice-laptop")
    assert said(server, delegate, delegate.knock(1)) == "silence"


@pytest.mark.parametrize("whom", ["ci", ""])
def test_it_is_revoked_alone_and_the_device_goes_on(server: ListeningServer, alice: Keyring, whom: str) -> None:
    delegate, other = Delegate.of(alice), Delegate.of(alice, "bob")
    assert said(server, delegate, delegate.knock(0)) == "granted"
    server.delegations.revoke("alice-laptop", whom, NOW_S)
    server.membership.read_again(START)
    assert said(server, delegate, delegate.knock(1)) is Refusal.DELEGATION_REVOKED
    assert said(server, other, other.knock(2)) == ("granted" if whom else Refusal.DELEGATION_REVOKED)
    knock = alice.knock(START.wall_ms, 0, "web")
    assert verdict(alice, server.hear(knock, START), knock) == "granted"
    newer = Delegate.of(alice, issued_s=NOW_S + 1)
    assert said(server, newer, newer.knock(3)) == "granted"


def test_whoever_is_not_the_device_cannot_delegate(server: ListeningServer, alice: Keyring) -> None:
    forged = [
        Delegate.of(alice, signed_by=secret("a thief")),
        Delegate.of(alice, server=public_key(secret("another server"))),
        replace(Delegate.of(alice), certificate=replace(Delegate.of(alice).certificate, services=("ssh",))),
        replace(Delegate.of(alice), certificate=replace(Delegate.of(alice).certificate, expires_s=NOW_S + 86_400)),
    ]
    for slot, delegate in enumerate(forged):
        assert said(server, delegate, delegate.knock(slot)) == "silence"
    delegates_own = Delegate.of(alice)
    deeper = Delegate.of(alice, "friend", signed_by=delegates_own.seed)
    assert said(server, deeper, deeper.knock(5)) == "silence"
    assert server.account.counts.results["bad_signature"] == 5
    assert server.firewall.granted == []


def test_whoever_copies_the_certificate_without_its_key_opens_nothing(server: ListeningServer, alice: Keyring) -> None:
    thief = replace(Delegate.of(alice), seed=secret("another thief"))
    assert said(server, thief, thief.knock()) == "silence"
    assert server.firewall.granted == []


def test_each_channel_carries_its_own_kind_of_knock_only(server: ListeningServer, alice: Keyring) -> None:
    delegate = Delegate.of(alice)
    knock = Knock(START.wall_ms, WEB, certificate=delegate.certificate)
    by_device = seal_knock(
        knock,
        keys=alice.channel,
        signer=SeedSigner(alice.seed),
        server_identity=IDENTITY.public,
        slot=0,
        nonce=bytes(24),
    )
    assert verdict(alice, server.hear(by_device, START), by_device) is Refusal.MALFORMED
    bare = seal_knock(
        Knock(START.wall_ms, WEB),
        keys=delegate.channel,
        signer=SeedSigner(alice.seed),
        server_identity=IDENTITY.public,
        slot=0,
        nonce=bytes(24),
    )
    assert said(server, delegate, bare) == "silence"
    nonsense = seal(
        seal_key=delegate.channel.request_seal,
        signer=SeedSigner(delegate.seed),
        domain=Domain.KNOCK,
        server_identity=IDENTITY.public,
        tag=compute_tag(delegate.channel, TagPosition(TagKind.KNOCK, TagKind.KNOCK.window(START.wall_ms), 1)),
        nonce=bytes(24),
        body=bytes((1, 1, 1)) + b"\xff" * 397,
    )
    assert said(server, delegate, nonsense) == "silence"
    assert server.firewall.granted == []


def test_a_slot_of_the_delegates_opens_once_and_takes_none_of_the_devices(
    server: ListeningServer, alice: Keyring
) -> None:
    delegate = Delegate.of(alice)
    knock = delegate.knock(3)
    assert said(server, delegate, knock) == "granted"
    own = alice.knock(START.wall_ms, 3, "web")
    assert verdict(alice, server.hear(own, START), own) == "granted"
    server.restart(START)
    assert said(server, delegate, knock) is Refusal.ALREADY_USED
    assert len(server.firewall.granted) == 2


def test_the_delegates_keys_tell_nothing_of_the_devices(server: ListeningServer, alice: Keyring) -> None:
    of_device, of_delegates = alice.channel, Delegate.of(alice).channel
    assert not {repr(value) for value in _all(of_device)} & {repr(value) for value in _all(of_delegates)}
    own = alice.knock(START.wall_ms, 0, "web")
    assert own[:8] not in {
        compute_tag(of_delegates, TagPosition(TagKind.KNOCK, TagKind.KNOCK.window(START.wall_ms), slot))
        for slot in range(64)
    }


def test_a_delegate_gives_back_its_own_leases_only(server: ListeningServer, alice: Keyring) -> None:
    delegate = Delegate.of(alice)
    said(server, delegate, delegate.knock(0))
    assert said(server, delegate, delegate.knock(1, action=Action.CLOSE)) == "granted"
    ((_, label),) = server.firewall.closed
    assert label == "alice-laptop+ci"


def _all(keys: ChannelKeys) -> tuple[bytes, ...]:
    return keys.tag, keys.clock_tag, keys.request_seal, keys.answer_tag, keys.answer_seal
