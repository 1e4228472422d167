"""The machine and the versions that a report names. It must not know what is measured."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

VERSION_COMMANDS = {
    "fwknopd": ["fwknopd", "--version"],
    "fwknop": ["fwknop", "--version"],
    "nft": ["nft", "--version"],
    "iptables": ["iptables", "--version"],
}


def machine() -> dict[str, str]:
    """What the figures depend on."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "processor": f"{os.cpu_count()} cores, {model[1] if model else platform.machine()}",
        "system": f"{platform.freedesktop_os_release().get('PRETTY_NAME', '?')}, Linux {platform.release()}",
        "load at the start": f"{os.getloadavg()[0]:.2f}",
    }


def versions() -> dict[str, str]:
    """Of this project, its peers and what both stand on."""
    found = {"spa-perimeter": version("spa-perimeter"), "Python": platform.python_version()}
    with tempfile.TemporaryDirectory() as home:
        # fwknop writes a first rc file into the user's home, and says so before its version.
        environment = {**os.environ, "HOME": home}
        for name, argv in VERSION_COMMANDS.items():
            if shutil.which(argv[0]) is not None:
                done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
                found[name] = (done.stdout + done.stderr).strip().rpartition("\n")[2]
    return found
