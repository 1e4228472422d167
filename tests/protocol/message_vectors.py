"""The parts of vectors.json that are datagrams: knocks, enrolments and answers, with every value on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from nacl import bindings

from spa_protocol.answer import Answer, AnsweredService, Checkpoint
from spa_protocol.body import Address
from spa_protocol.enrolment import Enrolment
from spa_protocol.keys import ChannelKeys, agreed_gate_secret, exchange_public
from spa_protocol.knock import Action, Knock
from spa_protocol.limits import MAX_SLOTS
from spa_protocol.posture import Fact, Posture, PostureSource
from spa_protocol.refusal import GRANTED, Refusal
from spa_protocol.seal import HEAD_SIZE, Domain, answer_tag, of_kind, seal, signed_bytes, unseal
from spa_protocol.signature import SeedSigner, Signature, SignatureKind, Signer, VerifyingKey, sk_signed
from spa_protocol.tag import CLOCK_SLOTS, TagKind, TagPosition, compute_tag
from tests.protocol import world
from tests.protocol.security_key import SecurityKey

Entry = dict[str, object]

V4, V6 = IPv4Address("192.0.2.7"), IPv6Address("2001:db8::7")
CHANNELS: dict[str, ChannelKeys] = {
    **{name: holder.keys for name, holder in world.HOLDERS.items()},
    "invite": world.INVITE_KEYS,
}
LONG_NAMES = tuple(f"service-{i}-with-a-long-name"[:24] for i in range(8))
BY_DEVICE = world.certificate()
BY_SECURITY_KEY = world.certificate(world.SECURITY_KEY)
LONGEST_CERTIFICATE = world.certificate(name="a" * 24, services=LONG_NAMES[:4], issued_s=2**64 - 2, expires_s=2**64 - 1)
VERIFIED = replace(world.SECURITY_KEY, flags=5, counter=2**32 - 1)
GREATEST_SKEW_MS, LONGEST_DELEGATION_S = 60_000, 86_400
OTHER_APPLICATION = SecurityKey(world.SECURITY_KEY.seed, "ssh:" + "office ~!" * 6 + "office", counter=0)

POSTURE = Posture(
    75, PostureSource.OSQUERY, Fact.YES, Fact.NO, Fact.UNKNOWN, Fact.YES, 12, 345_678, "Debian GNU/Linux 12"
)

KNOCKS: dict[str, dict[str, Knock]] = {
    "device": {
        "IPv4 source named": Knock(world.TIME_MS, ("web",), 30, V4),
        "IPv6 source named": Knock(world.TIME_MS, ("web", "ssh"), 300, V6),
        "as seen": Knock(world.TIME_MS, ("ssh",), 0, None),
        "no service": Knock(world.TIME_MS),
        "eight services with the longest names": Knock(world.TIME_MS, LONG_NAMES, 86_400, V4),
        "time 0": Knock(0, ("web",)),
        "the last of all times": Knock(2**64 - 1, ("web",), 2**32 - 1, IPv6Address(2**128 - 1)),
        "under a clock tag": Knock(world.TIME_MS, ("web",), 30, V4),
        "close": Knock(world.TIME_MS, ("web", "ssh"), 0, V4, Action.CLOSE),
        "close all, as seen": Knock(world.TIME_MS, action=Action.CLOSE),
        "with a posture": Knock(world.TIME_MS, ("web",), 30, V4, posture=POSTURE),
        "with a posture of which nothing is known": Knock(world.TIME_MS, ("web",), posture=Posture()),
        "with a code": Knock(world.TIME_MS, ("web",), 30, V4, code="755224"),
        "all that can be said at once": Knock(
            world.TIME_MS, LONG_NAMES, 86_400, V6, posture=replace(POSTURE, system="~" * 24), code="94287082"
        ),
        "approve": Knock(world.TIME_MS, (), 1800, action=Action.APPROVE, request=482_113, posture=POSTURE),
        "deny": Knock(world.TIME_MS, action=Action.DENY, request=2**32 - 1),
    },
    "security-key": {
        "touched": Knock(world.TIME_MS, ("web",), 30, V4),
        "touched, the user verified, the last of all counters": Knock(world.TIME_MS, ("web",), 30, V4),
        "touched, under a clock tag": Knock(world.TIME_MS, ("web",), 30, V4),
        "touched, eight services with the longest names": Knock(world.TIME_MS, LONG_NAMES, 0, V6),
        "touched, close": Knock(world.TIME_MS, ("web",), 0, V6, Action.CLOSE),
    },
    "delegate": {
        "delegated": Knock(world.TIME_MS, ("web",), 30, V4, certificate=BY_DEVICE),
        "delegated, no service": Knock(world.TIME_MS, certificate=BY_DEVICE),
        "delegated, close": Knock(world.TIME_MS, ("ssh",), 0, V6, Action.CLOSE, BY_DEVICE),
        "delegated, the most that can be said": Knock(
            2**64 - 1, LONG_NAMES[4:], 2**32 - 1, V6, certificate=LONGEST_CERTIFICATE
        ),
    },
    "security-key-delegate": {
        "delegated by a security key": Knock(world.TIME_MS, ("web",), 30, V4, certificate=BY_SECURITY_KEY),
        "delegated by a security key, the user verified": Knock(
            world.TIME_MS, ("web",), certificate=world.certificate(VERIFIED)
        ),
    },
}
SIGNERS: dict[str, Signer] = {
    "usual": SeedSigner(world.DEVICE_SEED),
    "shortest label": SeedSigner(world.DEVICE_SEED),
    "longest label": SeedSigner(world.DEVICE_SEED),
    "under a clock tag": SeedSigner(world.DEVICE_SEED),
    "a security key": world.SECURITY_KEY,
    "a security key, the longest label and application": OTHER_APPLICATION,
}
LABELS = {"shortest": "a", "longest": "A9._-" * 12 + "end"}
GRANTS = {
    "granted": world.answer(),
    "granted, seen over IPv6": replace(world.answer(), seen=V6),
    "granted, the most slots": replace(world.answer(), slots=MAX_SLOTS),
    "granted, the fewest slots that can be said": replace(world.answer(), slots=1),
    "eight services and the longest label": replace(
        world.answer(),
        about="a" * 63,
        services=tuple(AnsweredService(name, 2**32 - 1, 65_535, 65_535, True) for name in LONG_NAMES),
    ),
    "granted, with a checkpoint": replace(world.answer(), checkpoint=Checkpoint(4711, bytes(range(16)))),
    "eight services, the longest label and a checkpoint": replace(
        world.answer(),
        about="a" * 63,
        services=tuple(AnsweredService(name, 2**32 - 1, 65_535, 65_535, True) for name in LONG_NAMES),
        checkpoint=Checkpoint(2**64 - 1, b"\xff" * 16),
    ),
    "closed": replace(world.answer(), services=(AnsweredService("web", 0, 8443, 0, False),)),
}


def knocks() -> list[Entry]:
    """Section 5."""
    return [
        _knock(name, holder, slot, knock)
        for holder, named in KNOCKS.items()
        for slot, (name, knock) in enumerate(named.items())
    ]


def enrolments() -> list[Entry]:
    """Section 6."""
    return [_enrolment(name, slot, signer) for slot, (name, signer) in enumerate(SIGNERS.items())]


def answers() -> list[Entry]:
    """Section 7."""
    enrolment_head = world.enrolment_datagram()[:HEAD_SIZE]
    enrolled = replace(world.answer(), services=tuple(replace(each, left_s=0) for each in world.answer().services))
    delegates = {"granted": replace(world.answer(), slots=8, about="alice-laptop+ci")}
    delegates |= {name: answer for name, answer in _refusals() if "DELEGAT" in name}
    heads = {name: world.knock_datagram(holder=holder)[:HEAD_SIZE] for name, holder in world.HOLDERS.items()}
    return [
        *(_answer(name, "device", heads["device"], answer) for name, answer in (*GRANTS.items(), *_refusals())),
        *(_answer(name, "delegate", heads["delegate"], answer) for name, answer in delegates.items()),
        _answer("granted", "security-key", heads["security-key"], world.answer()),
        _answer("enrolled", "invite", enrolment_head, enrolled),
        _answer("invite used", "invite", enrolment_head, dict(_refusals())["INVITE_USED"]),
    ]


def judged() -> list[Entry]:
    """What a server makes of a certificate at some time, all signatures being right; 0: nothing is amiss."""
    now_s, now_ms = world.TIME_MS // 1000, world.TIME_MS
    span = world.certificate
    cases = {
        "within its time": (0, now_ms, span(), ("web",)),
        "no service named": (0, now_ms, span(), ()),
        "it has expired": (25, now_ms, span(issued_s=now_s - 7200, expires_s=now_s - 3600), ("web",)),
        "it expires in less than a second": (25, now_ms, span(expires_s=now_s + 1), ("web",)),
        "it expires in just a second": (0, now_ms - 123, span(expires_s=now_s + 1), ("web",)),
        "it begins later than the greatest skew": (25, now_ms, span(issued_s=now_s + 61), ("web",)),
        "it begins just as late as the greatest skew": (0, now_ms - 123, span(issued_s=now_s + 60), ("web",)),
        "it runs for as long as is allowed": (0, now_ms, span(issued_s=now_s, expires_s=now_s + 86_400), ("web",)),
        "it runs for a second too long": (27, now_ms, span(issued_s=now_s, expires_s=now_s + 86_401), ("web",)),
        "it runs for ever": (27, now_ms, span(issued_s=0, expires_s=2**64 - 1), ("web",)),
        "it does not name the service": (28, now_ms, span(), ("db",)),
        "it does not name one of the services": (28, now_ms, span(services=("web",)), ("web", "ssh")),
    }
    return [
        {
            "name": name,
            "channel": "delegate",
            "code": code,
            "now_ms": now_ms,
            "greatest_skew_ms": GREATEST_SKEW_MS,
            "longest_delegation_s": LONGEST_DELEGATION_S,
            "datagram": world.knock_datagram(
                Knock(world.TIME_MS, wanted, 30, V4, certificate=by), world.HOLDERS["delegate"]
            ).hex(),
        }
        for name, (code, now_ms, by, wanted) in cases.items()
    ]


def _refusals() -> Iterator[tuple[str, Answer]]:
    for refusal in Refusal:
        about = "web" if "SERVICE" in refusal.name else ""
        yield refusal.name, Answer(refusal, world.TIME_MS + 40, V4, 40_000, 16, about)


def signature_entry(key: VerifyingKey, message: bytes, signature: Signature) -> Entry:
    """A signature, and what it is made of."""
    entry: Entry = {"signed": message.hex()}
    if key.kind is SignatureKind.SK_ED25519:
        entry["authenticated"] = sk_signed(key.application, signature.proof, message).hex()
    return {**entry, "signature": signature.value.hex(), "flags": signature.flags, "counter": signature.counter}


def _sealed(domain: Domain, signer: Signer, seal_key: bytes, tag: bytes, body: bytes, context: bytes = b"") -> Entry:
    body = of_kind(body, signer.key.kind)
    nonce = world.nonce(f"{domain.name} {tag.hex()} {body.hex()}")
    datagram = seal(
        seal_key=seal_key,
        signer=signer,
        domain=domain,
        server_identity=world.SERVER_IDENTITY,
        tag=tag,
        nonce=nonce,
        body=body,
        context=context,
    )
    opened = unseal(datagram, seal_key, context)
    if opened is None:
        raise AssertionError("what was sealed opens")
    additional = tag + context
    sealed = datagram[HEAD_SIZE:]
    plain = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, additional, nonce, seal_key)
    message = signed_bytes(domain, world.SERVER_IDENTITY, tag, nonce, context, body)
    return {
        "tag": tag.hex(),
        "nonce": nonce.hex(),
        "body": body.hex(),
        **signature_entry(signer.key, message, opened.signature),
        "plaintext": plain.hex(),
        "additional_data": additional.hex(),
        "ciphertext": sealed.hex(),
        "datagram": datagram.hex(),
    }


def _position(name: str, time_ms: int, slot: int) -> TagPosition:
    kind = TagKind.CLOCK if "clock" in name else TagKind.KNOCK
    return TagPosition(kind, kind.window(time_ms), slot % CLOCK_SLOTS if kind is TagKind.CLOCK else slot)


def _where(position: TagPosition) -> Entry:
    return {"kind": position.kind.name.lower(), "window": position.window, "slot": position.slot}


def _knock(name: str, holder_name: str, slot: int, knock: Knock) -> Entry:
    holder = world.HOLDERS[holder_name]
    position = _position(name, knock.time_ms, slot)
    tag = compute_tag(holder.keys, position)
    by = knock.certificate
    fields = {
        "action": knock.action.value,
        "time_ms": knock.time_ms,
        "lease_s": knock.lease_s,
        "source": _address(knock.source),
        "services": list(knock.services),
        "certificate": None if by is None else by.to_bytes().hex(),
        "posture": None if knock.posture is None else _posture(knock.posture),
        "code": knock.code,
        "request": knock.request,
    }
    signer = VERIFIED if "verified, the last" in name else holder.signer
    sealed = _sealed(Domain.KNOCK, signer, holder.keys.request_seal, tag, knock.body())
    return {"name": name, "channel": holder_name, **_where(position), **fields, **sealed}


def _posture(posture: Posture) -> Entry:
    facts = ("disk_encrypted", "screen_lock", "firewall", "secure_boot")
    return {
        "age_s": posture.age_s,
        "source": posture.source.value,
        **{name: getattr(posture, name).name.lower() for name in facts},
        "patch_age_days": posture.patch_age_days,
        "uptime_s": posture.uptime_s,
        "system": posture.system,
    }


def _enrolment(name: str, slot: int, signer: Signer) -> Entry:
    label = next((label for length, label in LABELS.items() if length in name), "alice-laptop")
    message: Enrolment = replace(world.enrolment(signer.key), label=label)
    position = _position(name, message.time_ms, slot)
    tag = compute_tag(world.INVITE_KEYS, position)
    invite_exchange = exchange_public(world.INVITE_EXCHANGE_SECRET)
    agreed = agreed_gate_secret(
        own_secret=world.DEVICE_EXCHANGE_SECRET,
        peer_public=invite_exchange,
        invite_secret=world.INVITE_SECRET,
        invite_exchange=invite_exchange,
        device_exchange=message.exchange,
        device_key=message.device_key,
    )
    if agreed is None:
        raise AssertionError("both exchange values are sound")
    fields = {
        "time_ms": message.time_ms,
        "device_key": message.device_key.hex(),
        "exchange": message.exchange.hex(),
        "label": message.label,
        "application": message.application,
        "z": bindings.crypto_scalarmult(world.DEVICE_EXCHANGE_SECRET, invite_exchange).hex(),
        "agreed_gate_secret": agreed.hex(),
    }
    sealed = _sealed(Domain.ENROLMENT, signer, world.INVITE_KEYS.request_seal, tag, message.body())
    return {"name": name, **_where(position), **fields, **sealed}


def _answer(name: str, channel: str, request_head: bytes, answer: Answer) -> Entry:
    keys = CHANNELS[channel]
    fields = {
        "outcome": answer.refusal.code if answer.refusal else GRANTED,
        "time_ms": answer.time_ms,
        "seen": _address(answer.seen),
        "seen_port": answer.seen_port,
        "slots": answer.slots,
        "about": answer.about,
        "services": [
            [each.name, each.left_s, each.tcp_port, each.udp_port, each.needs_signed_source] for each in answer.services
        ],
        "checkpoint": None if answer.checkpoint is None else [answer.checkpoint.seq, answer.checkpoint.hash.hex()],
    }
    server = SeedSigner(world.SERVER_SEED)
    tag = answer_tag(keys, request_head)
    sealed = _sealed(Domain.ANSWER, server, keys.answer_seal, tag, answer.body(), request_head)
    return {"name": name, "channel": channel, "request_head": request_head.hex(), **fields, **sealed}


def _address(address: Address | None) -> str | None:
    return str(address) if address is not None else None
