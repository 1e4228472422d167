"""Delegating: a key that may open some of this device's services for a while, as one line of text; and taking such a
line up (docs/protocol.md, sections 5.2 and 8.3).

Nothing is sent: the certificate goes with the text, and the server reads it out of the delegate's knocks. It must not
know of terminals.
"""

from __future__ import annotations

import os

from spa_client.enrol import default_name
from spa_client.errors import BadUsage, Refused
from spa_client.exchange import wall_ms
from spa_client.perimeter import Perimeter, is_perimeter_name
from spa_client.secret_file import write_file
from spa_client.storage import KEY_FILE, Store
from spa_protocol.delegation import MAX_DELEGATED, delegate_secret, issue
from spa_protocol.delegation_text import Delegation
from spa_protocol.keys import KEY_SIZE, public_key
from spa_protocol.limits import DELEGATE_SLOTS
from spa_protocol.names import is_delegate_name, is_service_name
from spa_protocol.refusal import Refusal
from spa_protocol.signature import SeedSigner
from spa_protocol.text import BadText, TextKind, encode


def delegate(perimeter: Perimeter, services: tuple[str, ...], *, to: str, for_s: int, now_ms: int) -> Delegation:
    """A new key for `to`, good for these services and so many seconds from `now_ms` on.

    Raises BadUsage for what cannot be delegated, and what the device's signer raises.
    """
    if perimeter.certificate is not None:
        raise BadUsage(f"{perimeter.name} was itself delegated to this computer, and cannot be delegated on")
    if not 1 <= len(services) <= MAX_DELEGATED or len(set(services)) != len(services):
        raise BadUsage(f"name one to {MAX_DELEGATED} services, each once: --service web")
    for name in services:
        if not is_service_name(name):
            raise BadUsage(f"{name!r} cannot be a service: small letters, digits and '-', at most 24 characters")
    if not is_delegate_name(to):
        raise BadUsage(f"{to!r} cannot name a delegate: letters, digits, '.', '_' and '-', at most 24 characters")
    if for_s < 1:
        raise BadUsage("a delegation runs for a second at least: --for 2h")
    seed, issued_s = os.urandom(KEY_SIZE), now_ms // 1000
    certificate = issue(
        perimeter.signer,
        perimeter.server_identity,
        key=public_key(seed),
        name=to,
        services=services,
        issued_s=issued_s,
        expires_s=issued_s + for_s,
    )
    return Delegation(
        seed,
        delegate_secret(perimeter.gate_secret),
        perimeter.server_identity,
        certificate,
        perimeter.label,
        perimeter.knock_ports,
        perimeter.hosts,
    )


def is_delegation(text: str) -> bool:
    """Whether a text looks like a delegation rather than an invite."""
    return text.strip().lower().startswith(TextKind.DELEGATION.prefix + "1")


def take_up(text: str, *, store: Store, name: str | None, replace_old: bool) -> Perimeter:
    """Store a delegation as a perimeter. Raises BadUsage, Refused where it has expired, and OSError."""
    try:
        given = Delegation.parse(text)
    except BadText as error:
        raise BadUsage(f"the delegation cannot be used: {error}") from None
    if wall_ms() >= given.certificate.expires_s * 1000:
        sentence = "the delegation has expired by this computer's clock: ask for a new one (spa-client delegate)"
        raise Refused(sentence, Refusal.DELEGATION_EXPIRED)
    name = default_name(given.hosts[0]) if name is None else name
    if not is_perimeter_name(name):
        raise BadUsage(f"{name!r} cannot name a perimeter: small letters, digits, '_' and '-', at most 63 characters")
    if name in store.names() and not replace_old:
        raise BadUsage(f"a perimeter named {name} is joined already: choose another with --name, or give --replace")
    perimeter = Perimeter(
        name=name,
        hosts=given.hosts,
        knock_ports=given.knock_ports,
        server_identity=given.server_identity,
        label=given.label,
        signer=SeedSigner(given.seed),
        gate_secret=given.gate_secret,
        slots=DELEGATE_SLOTS,
        certificate=given.certificate,
    )
    folder = store.joining_folder(given.certificate.key.hex())
    folder.mkdir(mode=0o700, exist_ok=True)
    write_file(folder / KEY_FILE, encode(TextKind.SECRET_KEY, given.seed) + "\n")
    store.adopt(folder, perimeter)
    return perimeter
