"""What the product says, in the words of the second reading, so that tests can compare the two."""

from __future__ import annotations

from spa_protocol.answer import Answer
from spa_protocol.delegation import Certificate
from spa_protocol.delegation_text import Delegation
from spa_protocol.enrolment import Enrolment
from spa_protocol.invite import Invite
from spa_protocol.knock import Knock
from spa_protocol.posture import Posture
from spa_protocol.signature import SeedSigner, Signature, Signer, VerifyingKey
from tests.protocol import second_reading as second
from tests.protocol import second_reading_delegation as second_delegation
from tests.protocol import second_reading_signature as second_signature
from tests.protocol import second_reading_texts as second_texts
from tests.protocol.security_key import SecurityKey


def of_signer(signer: Signer) -> second_signature.Signer:
    """A seed, or a security key with its flags and counter."""
    if isinstance(signer, SecurityKey):
        return second_signature.Signer(signer.seed, signer.application, signer.flags, signer.counter)
    assert isinstance(signer, SeedSigner)
    return second_signature.Signer(signer.seed)


def of_key(key: VerifyingKey) -> second_signature.Key:
    """A public key."""
    return second_signature.Key(key.public, key.application)


def of_signature(signature: Signature) -> second_signature.Signature:
    """A signature."""
    return second_signature.Signature(signature.value, signature.proof)


def of_certificate(certificate: Certificate) -> second_delegation.Certificate:
    """A certificate."""
    return second_delegation.Certificate(
        certificate.key,
        certificate.issued_s,
        certificate.expires_s,
        certificate.name,
        certificate.services,
        of_signature(certificate.signature),
    )


def of_knock(knock: Knock) -> second.Knock:
    """A knock."""
    certificate = None if knock.certificate is None else of_certificate(knock.certificate)
    return second.Knock(
        knock.time_ms,
        knock.services,
        knock.lease_s,
        knock.source,
        knock.action.value,
        certificate,
        None if knock.posture is None else of_posture(knock.posture),
        knock.code,
        knock.request,
    )


def of_posture(posture: Posture) -> second.Posture:
    """A posture."""
    facts = posture.disk_encrypted, posture.screen_lock, posture.firewall, posture.secure_boot
    return second.Posture(
        posture.age_s,
        posture.source.value,
        tuple(fact.value for fact in facts),
        posture.patch_age_days,
        posture.uptime_s,
        posture.system,
    )


def of_enrolment(enrolment: Enrolment) -> second.Enrolment:
    """An enrolment."""
    return second.Enrolment(
        enrolment.time_ms, enrolment.device_key, enrolment.exchange, enrolment.label, enrolment.application
    )


def of_answer(answer: Answer) -> second.Answer:
    """An answer."""
    return second.Answer(
        answer.refusal.code if answer.refusal else 0,
        answer.time_ms,
        answer.seen,
        answer.seen_port,
        answer.slots,
        answer.about,
        tuple(
            second.Service(each.name, each.left_s, each.tcp_port, each.udp_port, each.needs_signed_source)
            for each in answer.services
        ),
        None if answer.checkpoint is None else (answer.checkpoint.seq, answer.checkpoint.hash),
    )


def of_invite(invite: Invite) -> second_texts.Invite:
    """An invite."""
    return second_texts.Invite(
        invite.secret, invite.server_identity, invite.exchange, invite.expires_s, invite.knock_ports, invite.hosts
    )


def of_delegation(delegation: Delegation) -> second_texts.Delegation:
    """A delegation."""
    return second_texts.Delegation(
        delegation.seed,
        delegation.gate_secret,
        delegation.server_identity,
        of_certificate(delegation.certificate),
        delegation.label,
        delegation.knock_ports,
        delegation.hosts,
    )
