"""One server with a service of every kind: its own ports, a published container's, a routed host's, a forwarded one.

web         tcp and udp 8443                   on the server
range       tcp 8000-8003, udp 8000-8001       on the server
published   tcp and udp 8080                   another table leads them to the inner host's 80, as for a container
database    tcp 5432                           on the inner host, to which the server routes
inner-web   tcp and udp 9443                   this table leads them to the inner host's 443
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.lab import Lab

SERVICES = """
[service.web]
tcp = [8443]
udp = [8443]
roles = ["admin"]

[service.range]
tcp = ["8000-8003"]
udp = ["8000-8001"]
roles = ["admin"]

[service.published]
tcp = [8080]
udp = [8080]
roles = ["admin"]

[service.database]
tcp = [5432]
roles = ["admin"]
hosts = ["10.9.0.2", "fd00:9::2"]

[service.inner-web]
tcp = [9443]
udp = [9443]
roles = ["admin"]
forward_to = ["10.9.0.2:443", "[fd00:9::2]:443"]
"""

_CONTAINERS = """
table inet containers {
	chain prerouting {
		type nat hook prerouting priority dstnat;
		meta nfproto ipv4 meta l4proto { tcp, udp } th dport 8080 dnat ip to 10.9.0.2:80
		meta nfproto ipv6 meta l4proto { tcp, udp } th dport 8080 dnat ip6 to [fd00:9::2]:80
	}
}
"""

SERVER_TCP = (8443, 8000, 8001, 8002, 8003, 8080, 9443)
SERVER_UDP = (8443, 8000, 8001, 8080, 9443)
"""Protected ports at the server's own address."""
INNER_TCP = (5432, 443)
INNER_UDP = (443,)
"""Protected ports at the inner host's address."""


def publish_container(lab: Lab) -> None:
    """Lead port 8080 of the server to the inner host's 80, in another table, as container engines do."""
    lab.server.nft(_CONTAINERS)


@contextlib.contextmanager
def listening(lab: Lab) -> Iterator[None]:
    """Something listens behind every TCP port, so that whatever gets through is answered."""
    with contextlib.ExitStack() as stack:
        for port in (8443, 8000, 8001, 8002, 8003):
            stack.enter_context(lab.server.listen_tcp(port))
        for port in (80, 443, 5432):
            stack.enter_context(lab.inner.listen_tcp(port))
        yield
