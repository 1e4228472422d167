"""Hypothesis strategies for everything the protocol can say, extremes included."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from hypothesis import strategies as st

from spa_protocol.answer import MAX_ABOUT, Answer, AnsweredService, Checkpoint
from spa_protocol.delegation import MAX_DELEGATED, Certificate
from spa_protocol.delegation_text import Delegation
from spa_protocol.enrolment import Enrolment
from spa_protocol.invite import Invite
from spa_protocol.keys import KEY_SIZE, SIGNATURE_SIZE, public_key
from spa_protocol.knock import MAX_SERVICES, Action, Knock
from spa_protocol.limits import MAX_SLOTS
from spa_protocol.posture import MAX_SYSTEM, Fact, Posture, PostureSource
from spa_protocol.refusal import Refusal
from spa_protocol.signature import SeedSigner, Signature, Signer
from spa_protocol.tag import FEWEST_SLOTS
from tests.protocol.security_key import SecurityKey


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
printable = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
applications = st.text(printable, max_size=60).map("ssh:".__add__)

security_keys: st.SearchStrategy[Signer] = st.builds(
    SecurityKey, keys, applications, st.sampled_from([1, 5]), _number(32)
)
signers = st.builds(SeedSigner, keys) | security_keys


def _some_services(fewest: int, most: int) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(services, min_size=fewest, max_size=most, unique=True).map(tuple)


signatures = st.builds(Signature, st.binary(min_size=SIGNATURE_SIZE, max_size=SIGNATURE_SIZE), _number(8), _number(32))
_spans_s = st.lists(_number(64), min_size=2, max_size=2, unique=True).map(sorted)
certificates = st.builds(
    lambda key, name, services, span, signature: Certificate(key, name, services, span[0], span[1], signature),
    keys,
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,23}", fullmatch=True),
    _some_services(1, MAX_DELEGATED),
    _spans_s,
    signatures,
)
"""In the right form; their signatures are anything."""

_sources = st.none() | addresses | unspecified


def _knocks(most: int, by: st.SearchStrategy[Certificate | None]) -> st.SearchStrategy[Knock]:
    names = _some_services(0, most)
    opening = st.builds(Knock, times_ms, names, _number(32), _sources, st.just(Action.OPEN), by)
    closing = st.builds(Knock, times_ms, names, st.just(0), _sources, st.just(Action.CLOSE), by)
    return opening | closing


_facts = st.sampled_from(Fact)
postures = st.builds(
    Posture,
    _number(32),
    st.sampled_from(PostureSource),
    _facts,
    _facts,
    _facts,
    _facts,
    st.none() | st.integers(0, 2**16 - 2),
    st.none() | st.integers(0, 2**32 - 2),
    st.text(printable, max_size=MAX_SYSTEM),
)
_codes = st.just("") | st.from_regex(r"[0-9]{6,8}", fullmatch=True)
_requests = st.integers(1, 2**32 - 1)
_nothing: st.SearchStrategy[tuple[str, ...]] = st.just(())
_plain_knocks = _knocks(MAX_SERVICES, st.none())
_knocks_in_context = st.builds(
    lambda knock, posture, code: replace(knock, posture=posture, code=code), _plain_knocks, postures, _codes
)
_decisions = st.builds(
    lambda knock, request: replace(knock, request=request),
    st.builds(Knock, times_ms, _nothing, _number(32), action=st.just(Action.APPROVE), request=st.just(1), code=_codes)
    | st.builds(Knock, times_ms, action=st.just(Action.DENY), request=st.just(1), posture=st.none() | postures),
    _requests,
)
own_knocks = _plain_knocks | _knocks_in_context | _decisions
delegated_knocks = _knocks(MAX_DELEGATED, certificates)
knocks = own_knocks | delegated_knocks
enrolments = st.builds(Enrolment, times_ms, keys, keys, labels, st.just("") | applications)
answers = st.builds(
    Answer,
    st.none() | st.sampled_from(Refusal),
    times_ms,
    addresses | unspecified,
    ports,
    st.integers(FEWEST_SLOTS, MAX_SLOTS),
    st.text(printable, max_size=MAX_ABOUT),
    st.lists(st.builds(AnsweredService, services, _number(32), ports, ports, st.booleans()), max_size=MAX_SERVICES).map(
        tuple
    ),
    st.none() | st.builds(Checkpoint, st.integers(1, 2**64 - 1), st.binary(min_size=16, max_size=16)),
)

_host_label = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,20}[A-Za-z0-9])?"
host_names = st.from_regex(rf"({_host_label}\.){{0,3}}{_host_label}", fullmatch=True).filter(
    lambda name: not name.replace(".", "").isdigit()
)
hosts = host_names | st.ip_addresses().map(str)
_knock_ports = st.lists(st.integers(1, 65_535), min_size=1, max_size=4, unique=True).map(tuple)
_hosts = st.lists(hosts, min_size=1, max_size=4).map(tuple)
invites = st.builds(Invite, keys, keys, keys, _number(64), _knock_ports, _hosts)
delegations = st.builds(
    lambda seed, certificate, *others: Delegation(
        seed, others[0], others[1], replace(certificate, key=public_key(seed)), *others[2:]
    ),
    keys,
    certificates,
    keys,
    keys,
    labels,
    _knock_ports,
    st.lists(hosts.filter(lambda host: len(host) < 48), min_size=1, max_size=4).map(tuple),
)
"""With hosts short enough for a text."""
