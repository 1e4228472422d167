"""What somebody probably meant whose name for something leads nowhere: hints for the end of an error's sentence.

It must not know how names are kept.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from spa_client.perimeter import KnownService, Perimeter


def nearest(text: str, names: Iterable[str]) -> str:
    """The one of the names that looks most like it, or ""."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(text.lower(), list(names), n=1, cutoff=0.6)), "")


def perimeter_hint(text: str, names: Iterable[str], known: Sequence[Perimeter]) -> str:
    """Which perimeter was meant: by its server, by a service of it, or by a name like its own; begins with "; "."""
    for perimeter in known:
        if text.lower() in perimeter.hosts:
            return f"; that is the server of {perimeter.name}: spa-client knock {perimeter.name}"
        if text in {service.name for service in perimeter.services}:
            return f"; that is a service of {perimeter.name}: spa-client knock {perimeter.name} {text}"
    near = nearest(text, names)
    return f"; did you mean {near}?" if near else ""


def service_hint(text: str, services: Sequence[KnownService]) -> str:
    """Which of the known services was meant; all of them where that cannot be told."""
    for service in services:
        if text in (str(service.tcp_port), str(service.udp_port)):
            return f"that is the port of service {service.name}"
    near = nearest(text, (service.name for service in services))
    if near and near != text:
        return f"did you mean {near}?"
    return f"this device knows of: {', '.join(service.name for service in services)}"


def folder_hint(folder: Path, variable: str) -> str:
    """Why nothing is joined, where the user or the folder may be the wrong one; begins with a space.

    `variable`: the environment's, which can name another folder than the usual.
    """
    user = os.environ.get("SUDO_USER", "root")
    if sys.platform != "win32" and os.geteuid() == 0 and user != "root":
        return f" by root; run it as {user}, without sudo, or let root join"
    if os.environ.get(variable):
        missing = "" if folder.is_dir() else ", which does not exist"
        return f" in {folder}{missing}; correct {variable}, or join"
    return ""
