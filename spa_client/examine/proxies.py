"""Proxies that this computer's programs are told to use: what connects by one comes from the proxy's address.

It must not know what was opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spa_client.examine.findings import Finding, Severity


def proxy_findings(hosts: Sequence[str]) -> Iterator[Finding]:
    """Whether the system's settings send connections to these hosts through a proxy."""
    from urllib.request import getproxies, proxy_bypass

    proxies = {scheme: where for scheme, where in getproxies().items() if scheme in ("http", "https", "all")}
    led = [host for host in hosts if not proxy_bypass(host)]
    if proxies and led:
        yield Finding(
            "proxy",
            Severity.NOTE,
            "browsers and curl go through a proxy here, and connect from its address, for which nothing opens",
            # The address of a proxy may hold a password.
            f"proxies are set for {', '.join(sorted(proxies))}",
            f"export NO_PROXY={','.join(led)}",
        )
