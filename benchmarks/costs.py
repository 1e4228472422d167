"""What one knock costs the server, step by step, timed in this process with the server's own functions.

The sum is less than what the wire shows: two processes are woken and switched to, and packets pass the kernel.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

from benchmarks.figures import Series
from spa_protocol.answer import Answer, seal_answer
from spa_protocol.keys import KEY_SIZE, Channel, derive, public_key
from spa_protocol.knock import Knock, seal_knock
from spa_protocol.posture import Posture
from spa_protocol.seal import NONCE_SIZE, Domain, Opened, unseal
from spa_protocol.signature import SeedSigner, VerifyingKey
from spa_server.decide.context import Approval, Context
from spa_server.decide.decision import DeviceStanding, decide
from spa_server.decide.decision import Path as Way
from spa_server.decide.policy import Judgement, Policy
from spa_server.decide.vocabulary import DEFAULT_POLICY, Action
from spa_server.enforce.client import FirewallClient
from spa_server.enforce.firewall import Enforced, Firewall
from spa_server.enforce.leases import Grant, open_leases
from spa_server.enforce.requests import MESSAGE_LARGEST, Status, Wanted
from spa_server.enforce.table import TableSocket
from spa_server.listen.clock import Instant
from spa_server.listen.risk_watch import RiskWatch
from spa_server.remember.baseline import Baselines
from spa_server.remember.requests import Requests
from spa_server.remember.sessions import SessionKey, SessionRecord
from spa_server.remember.store import Store, open_store
from spa_server.remember.used import UsedSlots
from spa_server.remember.users import Users
from spa_server.risk_table import RiskSettings
from spa_server.service import PortRange, Service
from spa_server.tell.audit import AuditTrail
from spa_server.tell.event_types import GRANTED
from spa_server.tell.events import Event
from tests.lab import Host

TIME_MS = 1_700_000_000_000
WEB = Service("web", tcp=(PortRange(8443, 8443),), udp=(), roles=frozenset({"admin"}))
LABEL = "laptop-0"
LEASE_S = 1
DIGEST = b"the same"


def in_context(source: IPv4Address) -> Context:
    """In what context a device asks from there."""
    return Context(
        user="alice",
        roles=frozenset({"admin"}),
        device=LABEL,
        delegate="",
        attested=False,
        posture=Posture(),
        posture_age_s=0,
        risk=0,
        source=source,
        hour=12,
        minute=0,
        weekday=3,
        mfa_age_s=None,
        approval=Approval(),
        renews=False,
    )


def measure(server: Host, rounds: int) -> list[Series]:
    """The steps in their order, in microseconds. `server`: a namespace in which the perimeter stands."""
    source, destination = IPv4Address("203.0.113.1"), server.ipv4
    gate_secret, seed, server_seed = (os.urandom(KEY_SIZE) for _ in range(3))
    keys, identity, public = derive(gate_secret, Channel.DEVICE), public_key(server_seed), public_key(seed)
    knock = Knock(TIME_MS, ("web",))
    datagram = seal_knock(
        knock, keys=keys, signer=SeedSigner(seed), server_identity=identity, slot=0, nonce=os.urandom(NONCE_SIZE)
    )
    opened = _opened(datagram, keys.request_seal)
    standing = DeviceStanding(LABEL, frozenset({"admin"}), enabled=True, key_retired=False)
    answer = Answer(refusal=None, time_ms=TIME_MS, seen=source, seen_port=40_000, slots=16, about=LABEL)

    def sealed_answer(_: int) -> object:
        return seal_answer(
            answer,
            keys=keys,
            server_seed=server_seed,
            server_identity=identity,
            request_head=opened.head,
            nonce=os.urandom(NONCE_SIZE),
        )

    way = Way(source, destination)
    policy = Policy(DEFAULT_POLICY, (WEB,))
    context = in_context(source)

    def judge(service: Service) -> Judgement:
        return policy.judge(context, service.name, Action.OPEN)

    series = [
        _timed("open the seal", rounds, lambda _: unseal(datagram, keys.request_seal)),
        _timed(
            "verify the signature", rounds, lambda _: opened.is_signed_by(VerifyingKey(public), Domain.KNOCK, identity)
        ),
        _timed("decide by the policy", rounds, lambda _: decide(knock, way, standing, (WEB,), judge)),
        _timed("parse", rounds, lambda _: Knock.parse(opened.body)),
    ]
    with tempfile.TemporaryDirectory(prefix="spa-bench-") as folder, open_store(Path(folder), create=True) as store:
        used = UsedSlots(store)
        series.append(_timed("record the slot (SQLite)", rounds, lambda number: used.use(1, number, 0)))
        series += _of_trust(store, context, rounds)
        trail = AuditTrail(Path(folder) / "audit.jsonl", largest_bytes=64 << 20, most_files=8)
        event = Event(
            GRANTED, f"granted {LABEL}", source=source, destination=destination, device=LABEL, services=(("web", 1),)
        )
        series.append(_timed("record in the audit trail, once", rounds, lambda _: trail.append(event)))
        trail.close()
    with server.enter():
        nft = TableSocket("spa")
    grant = Grant(WEB, source, destination, LEASE_S, LABEL)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    series.append(_timed("open the lease (netlink)", rounds, lambda _: open_leases(nft, (grant,))))
    thread = threading.Thread(target=_serve, args=(theirs, nft), daemon=True)
    thread.start()
    client = FirewallClient(ours, DIGEST)
    wanted = (Wanted(0, LEASE_S),)
    through = "the same through the socket pair, to another thread"
    series.append(_timed(through, rounds, lambda _: client.open_(source, destination, LABEL, wanted)))
    client.close()
    thread.join(timeout=5)
    theirs.close()
    series.append(_timed("seal the answer", rounds, sealed_answer))
    return series


def _of_trust(store: Store, context: Context, rounds: int) -> list[Series]:
    """What is done besides the policy so that each decision is in context, and is made again."""
    watch, record = RiskWatch(Baselines(store), RiskSettings()), SessionRecord(store, "this boot")
    users, requests = Users(store), Requests(store)
    at, source, posture = Instant(TIME_MS, 1_000_000), context.source, context.posture
    key = SessionKey(LABEL, source, source, WEB.name)
    created_s = TIME_MS // 1000 - 86_400

    def score(_: int) -> object:
        return watch.assess(
            user=context.user,
            device=LABEL,
            key_created_s=created_s,
            first_use=False,
            source=source,
            at=at,
            skew_ms=0,
            posture=posture,
            renews=False,
        )

    def look_for_an_approval(_: int) -> object:
        return requests.approval(context.user, WEB.name, at.wall_s, 60)

    def learn(_: int) -> object:
        watch.granted(user=context.user, device=LABEL, source=source, at=at, posture=posture)
        return None

    return [
        _timed("score the risk", rounds, score),
        _timed("look for a second factor (SQLite)", rounds, lambda _: users.factor_age_s(LABEL, at.wall_s)),
        _timed(
            "look for an approval (SQLite)", rounds, lambda _: requests.approval(context.user, WEB.name, at.wall_s, 60)
        ),
        _timed("note the session (SQLite)", rounds, lambda number: record.write({key: f"{number:400}"})),
        _timed("learn what is usual", rounds, learn),
    ]


def _serve(channel: socket.socket, nft: TableSocket) -> None:
    firewall = Firewall(nft, Enforced(DIGEST, (WEB,)), lambda _: Status.STALE, lambda: None)
    with contextlib.suppress(ConnectionError):
        while data := channel.recv(MESSAGE_LARGEST):
            channel.send(firewall.answer(data).pack())


def _opened(datagram: bytes, key: bytes) -> Opened:
    opened = unseal(datagram, key)
    if opened is None:
        raise AssertionError("a datagram that was just sealed opens")
    return opened


def _timed(title: str, rounds: int, step: Callable[[int], object]) -> Series:
    for number in range(-rounds // 10, 0):
        step(-number + rounds)
    taken: list[float] = []
    for number in range(rounds):
        begun_ns = time.perf_counter_ns()
        step(number)
        taken.append((time.perf_counter_ns() - begun_ns) / 1000)
    return Series(title, "µs", tuple(taken))
