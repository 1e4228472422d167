"""Live sessions for tests, made of few facts, and strategies that make them of any."""

from __future__ import annotations

from ipaddress import IPv4Address

from hypothesis import strategies as st

from spa_protocol.delegation import Certificate
from spa_protocol.keys import Channel
from spa_protocol.posture import MAX_SYSTEM, Fact, Posture, PostureSource
from spa_protocol.signature import Signature
from spa_server.decide.context import Approval, Context
from spa_server.listen.clock import Instant
from spa_server.listen.gate import HolderId
from spa_server.listen.session import Live
from spa_server.remember.sessions import SessionKey
from tests.server.decide.asked import context

SERVER = IPv4Address("198.51.100.1")
CONTEXT = context()


def key_of(label: str = "alice-laptop", service: str = "web", source: str = "192.0.2.7") -> SessionKey:
    return SessionKey(label, IPv4Address(source), SERVER, service)


def live_of(
    key: SessionKey, at: Instant, lease_s: int = 60, *, session: str = "0011", outlives: bool = False, number: int = 1
) -> Live:
    """A session that its knock opens now."""
    return Live(
        key,
        session=session,
        knock=session,
        holder=HolderId(Channel.DEVICE, number),
        seen=IPv4Address(str(key.source)),
        is_signed=False,
        context=CONTEXT,
        certificate=None,
        at=at,
        began_ms=at.boot_ms,
        ends_ms=at.boot_ms + lease_s * 1000,
        outlives=outlives,
    )


_text = st.text(max_size=20)
_seconds = st.integers(0, 2**40)
_facts = st.sampled_from(Fact)
_ages = st.none() | st.integers(0, 2**31)
_names = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)
addresses = st.ip_addresses()
postures = st.builds(
    Posture,
    st.integers(0, 2**32 - 1),
    st.sampled_from(PostureSource),
    _facts,
    _facts,
    _facts,
    _facts,
    st.none() | st.integers(0, 65_534),
    st.none() | st.integers(0, 2**32 - 2),
    st.from_regex(rf"[ -~]{{0,{MAX_SYSTEM}}}", fullmatch=True),
)
contexts = st.builds(
    Context,
    user=_text,
    roles=st.frozensets(_text),
    device=_text,
    delegate=_text,
    attested=st.booleans(),
    posture=st.none() | postures,
    posture_age_s=_ages,
    risk=st.integers(0, 100),
    source=addresses,
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
    weekday=st.integers(1, 7),
    mfa_age_s=_ages,
    approval=st.builds(Approval, st.frozensets(_text), _seconds),
    renews=st.booleans(),
)
certificates = st.builds(
    Certificate,
    st.binary(min_size=32, max_size=32),
    st.just("ci"),
    st.lists(_names, min_size=1, max_size=4, unique=True).map(tuple),
    st.integers(0, 1000),
    st.integers(1001, 2**40),
    st.builds(Signature, st.binary(min_size=64, max_size=64)),
)
lives = st.builds(
    Live,
    st.builds(SessionKey, _names, addresses, addresses, _names),
    session=_text,
    knock=_text,
    holder=st.builds(HolderId, st.sampled_from(Channel), st.integers(0, 2**40)),
    seen=addresses,
    is_signed=st.booleans(),
    context=contexts,
    certificate=st.none() | certificates,
    at=st.builds(Instant, _seconds, _seconds),
    began_ms=_seconds,
    ends_ms=_seconds,
    outlives=st.booleans(),
)
