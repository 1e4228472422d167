"""Taking up a device that the server was told of before, by its public key: no datagram is needed for that.

It must not know of terminals.
"""

from __future__ import annotations

import hashlib

from spa_client.enrol import free_name
from spa_client.errors import BadUsage
from spa_client.perimeter import Perimeter
from spa_client.secret_file import make_folder
from spa_client.signing.choosing import KeyChoice
from spa_client.signing.signers import signer_at
from spa_client.storage import KEY_FILE, Store
from spa_protocol.provision import Provision
from spa_protocol.text import BadText


def is_provision(text: str) -> bool:
    """Whether a text looks like a provision rather than an invite."""
    return text.lstrip().startswith("{")


def take_up_provision(
    text: str,
    *,
    store: Store,
    choice: KeyChoice,
    name: str | None = None,
    replace_old: bool = False,
    answers: bool = True,
) -> Perimeter:
    """Store the perimeter of a provision, the line that `spa-server device add` printed.

    `choice`: where the key is that the server was given. The rest is as `join` has it. Raises BadUsage, OSError and
    what is wrong with the key's place.
    """
    try:
        provision = Provision.parse(text)
    except BadText as error:
        raise BadUsage(f"the provision cannot be used: {error}") from None
    if provision.gate_secret is None:
        raise BadUsage("the provision holds no gate secret: put the one in that spa-server device add was given")
    name = free_name(store, provision.place.hosts[0], name, replace_old)
    place = choice.place_of(provision.key)
    folder = store.joining_folder(hashlib.blake2b(text.encode("utf-8"), digest_size=16).hexdigest())
    perimeter = Perimeter(
        name=name,
        hosts=provision.place.hosts,
        knock_ports=provision.place.knock_ports,
        server_identity=provision.server_identity,
        label=provision.label,
        signer=signer_at(place, folder / KEY_FILE),
        gate_secret=provision.gate_secret,
        answers=answers,
        place=place,
    )
    make_folder(folder)
    store.adopt(folder, perimeter)
    return perimeter
