"""A short name for what the firewall enforces: the knock ports and the services, as both processes must agree on them.

Requests number services by their place in the configuration, so the process that opens and the one that asks must
work from the same one: each computes this from its own copy. Pure; it must not know where a configuration comes from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b

from spa_server.service import Service

DIGEST_LENGTH = 8


def perimeter_digest(knock_ports: Sequence[int], services: Sequence[Service]) -> bytes:
    """DIGEST_LENGTH bytes that are equal when the same ruleset and the same longest leases follow.

    Who may open a service is not in it: that is decided by the network process alone.
    """
    canonical = json.dumps([sorted(knock_ports), *map(_enforced, services)])
    return blake2b(canonical.encode(), digest_size=DIGEST_LENGTH, person=b"spa-perimeter").digest()


def _enforced(service: Service) -> list[object]:
    return [
        service.name,
        [str(ports) for ports in service.tcp],
        [str(ports) for ports in service.udp],
        service.max_lease_s,
        service.on_expiry.value,
        [str(host) for host in service.hosts],
        [str(target) for target in service.forward_to],
        service.masquerade,
    ]
