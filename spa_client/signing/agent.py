"""A key in ssh-agent: which it holds, and a signature by one of them (draft-miller-ssh-agent, sections 4.4 and 4.5).

A security key is asked through the agent like any other; it signs once it has been touched. It must not know what is
signed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spa_client.errors import BadSurroundings, BadUsage, NotPermitted
from spa_client.signing import person
from spa_client.signing.agent_channel import AgentSilent, ask_agent
from spa_protocol.openssh import (
    SshReader,
    UnusableKey,
    fingerprint,
    key_blob,
    key_type,
    read_key_blob,
    read_signature,
    ssh_string,
)
from spa_protocol.signature import Signature, SignatureKind, VerifyingKey

LIST_S = 5.0
"""How long the agent may take to list its keys."""
SIGN_S = 45.0
"""How long it may take to sign: somebody may have to touch a key, or to agree. A knock is stale after a minute."""
_REQUEST_IDENTITIES, _IDENTITIES_ANSWER = 11, 12
_SIGN_REQUEST, _SIGN_RESPONSE = 13, 14
_FAILURE = 5
_MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class Identity:
    """A key that the agent holds, and its comment: mostly where it was made."""

    key: VerifyingKey
    comment: str

    def __str__(self) -> str:
        return f"{fingerprint(self.key)} {self.comment}".rstrip()


def identities() -> tuple[Identity, ...]:
    """The keys in the agent that can sign knocks. Raises BadSurroundings."""
    reader = _ask(bytes([_REQUEST_IDENTITIES]), _IDENTITIES_ANSWER, LIST_S)
    if reader is None:
        raise BadSurroundings("the key agent does not list its keys; restart it (ssh-agent)")
    found: list[Identity] = []
    try:
        for _ in range(reader.number()):
            blob, comment = reader.string(), reader.string().decode("utf-8", "replace")
            try:
                found.append(Identity(read_key_blob(blob), "".join(filter(str.isprintable, comment))))
            except UnusableKey:
                continue  # of another type
    except ValueError:
        raise _no_agent() from None
    return tuple(found)


def choose(wanted: str) -> Identity:
    """The key in the agent of that fingerprint or comment, or where "" is wanted the only one that can sign knocks.

    Raises BadUsage where there is none, or more than one, and BadSurroundings.
    """
    held = identities()
    if not held:
        raise BadSurroundings(_none_held())
    meant = [each for each in held if wanted in ("", fingerprint(each.key), each.comment)]
    if not meant:
        raise BadUsage(f"the key agent holds no key {wanted}; it holds: {_named(held)}")
    if len(meant) > 1:
        raise BadUsage(f"the key agent holds several keys; say which by its SHA256:...: {_named(meant)}")
    return meant[0]


@dataclass(frozen=True, slots=True)
class AgentSigner:
    """Has the agent sign with one of its keys; where that is a security key, somebody has to touch it each time."""

    key: VerifyingKey

    @property
    def every_time(self) -> bool:
        """A touch is asked for as seldom as can be."""
        return self.key.kind is SignatureKind.ED25519

    def sign(self, message: bytes) -> Signature:
        """The agent's signature. Raises BadSurroundings where it or the key is not there, NotPermitted."""
        if not self.every_time:
            person.say("touch the key")
        request = bytes([_SIGN_REQUEST]) + ssh_string(key_blob(self.key)) + ssh_string(message) + bytes(4)
        try:
            reader = _ask(request, _SIGN_RESPONSE, SIGN_S)
        except AgentSilent:
            raise NotPermitted(f"{self._unwilling()} within {SIGN_S:g} s: knock again") from None
        if reader is None:
            raise self._refused()
        try:
            signature = read_signature(reader.string(), self.key.kind)
            reader.finish()
        except ValueError:
            raise _no_agent() from None
        if not self.key.verify(message, signature):
            raise NotPermitted(
                "the signature that the key agent gave does not count: the security key was not touched"
                " (was it made with no-touch-required?), or the agent is another's"
            )
        return signature

    def _refused(self) -> BadSurroundings | NotPermitted:
        """Why the agent said no. It does not tell, but it tells what it holds."""
        held = identities()
        if not held:
            return BadSurroundings(_none_held())
        if all(each.key != self.key for each in held):
            kind, name = key_type(self.key), fingerprint(self.key)
            return BadSurroundings(f"the key agent does not hold {name} ({kind}): ssh-add it; it holds: {_named(held)}")
        return NotPermitted(f"the key agent refused to sign: {self._unwilling()}: knock again")

    def _unwilling(self) -> str:
        return "nobody agreed" if self.every_time else "nobody touched the key, or it is not plugged in"


def _ask(request: bytes, wanted: int, timeout_s: float) -> SshReader | None:
    """What follows in an answer of the wanted type; None where the agent says that it will not."""
    answer = ask_agent(request, timeout_s)
    if answer[0] == _FAILURE:
        return None
    if answer[0] != wanted:
        raise _no_agent()
    return SshReader(answer[1:])


def _no_agent() -> BadSurroundings:
    return BadSurroundings("what SSH_AUTH_SOCK leads to does not speak as a key agent does; start one (ssh-agent)")


def _none_held() -> str:
    return "the key agent holds no key that can sign knocks: add one (ssh-add), or unlock the agent (ssh-add -X)"


def _named(held: Sequence[Identity]) -> str:
    more = [f"{len(held) - _MOST_NAMED} more"] if len(held) > _MOST_NAMED else []
    return ", ".join([*map(str, held[:_MOST_NAMED]), *more])
