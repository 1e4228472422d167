"""Hypothesis strategies for everything the protocol can say, extremes included."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from hypothesis import strategies as st

from spa_protocol.answer import MAX_ABOUT, Answer, AnsweredService
from spa_protocol.enrolment import Enrolment
from spa_protocol.invite import Invite
from spa_protocol.keys import KEY_SIZE
from spa_protocol.knock import MAX_SERVICES, Knock
from spa_protocol.limits import MAX_SLOTS
from spa_protocol.refusal import Refusal
from spa_protocol.tag import FEWEST_SLOTS


def _number(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, 2**bits - 1) | st.sampled_from([0, 1, 2 ** (bits - 1), 2**bits - 1])


times_ms = _number(64)
ports = _number(16)
keys = st.binary(min_size=KEY_SIZE, max_size=KEY_SIZE)
addresses = st.ip_addresses(v=4) | st.ip_addresses(v=6).filter(
    lambda address: isinstance(address, IPv4Address) or address.ipv4_mapped is None
)
unspecified = st.sampled_from([IPv4Address(0), IPv6Address(0)])
services = st.from_regex(r"[a-z][a-z0-9-]{0,23}", fullmatch=True)
labels = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)
abouts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=MAX_ABOUT)

knocks = st.builds(
    Knock,
    times_ms,
    st.lists(services, max_size=MAX_SERVICES, unique=True).map(tuple),
    _number(32),
    st.none() | addresses | unspecified,
)
enrolments = st.builds(Enrolment, times_ms, keys, keys, labels)
answers = st.builds(
    Answer,
    st.none() | st.sampled_from(Refusal),
    times_ms,
    addresses | unspecified,
    ports,
    st.integers(FEWEST_SLOTS, MAX_SLOTS),
    abouts,
    st.lists(st.builds(AnsweredService, services, _number(32), ports, ports, st.booleans()), max_size=MAX_SERVICES).map(
        tuple
    ),
)

_host_label = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,20}[A-Za-z0-9])?"
host_names = st.from_regex(rf"({_host_label}\.){{0,3}}{_host_label}", fullmatch=True).filter(
    lambda name: not name.replace(".", "").isdigit()
)
hosts = host_names | st.ip_addresses().map(str)
invites = st.builds(
    Invite,
    keys,
    keys,
    keys,
    _number(64),
    st.lists(st.integers(1, 65_535), min_size=1, max_size=4, unique=True).map(tuple),
    st.lists(hosts, min_size=1, max_size=4).map(tuple),
)
