"""From this checkout to a machine on which the server is installed, the way the documentation tells an operator.

It must not know pytest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.systemd.machine import CACHE, Machine, MachineError, debian_tree

CHECKOUT = Path(__file__).parents[2]
PROGRAM = "/opt/spa/bin/spa-server"
_NOT_SOURCE = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "tests", "benchmarks")


def wheels_folder() -> Path:
    """The wheels of the server's libraries, for the tree's Python. Raises MachineError."""
    tree = debian_tree()
    for folder in sorted(CACHE.glob("wheels-3.*")):
        version = folder.name.removeprefix("wheels-")
        if (tree / f"usr/bin/python{version}").exists() and (folder / "prepared").exists():
            return folder
    raise MachineError(f"there are no wheels for {tree} in {CACHE}: fetch them with tests/systemd/prepare")


def build_wheel(folder: Path) -> Path:
    """The wheel of this checkout, built in the folder from a copy of the source."""
    source = folder / "source"
    shutil.copytree(CHECKOUT, source, ignore=_NOT_SOURCE, symlinks=True)
    argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps", "--no-index"]
    argv += ["--find-links", str(wheels_folder()), "--wheel-dir", str(folder), str(source)]
    env = {**os.environ, "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MachineError(f"the wheel could not be built: {done.stderr}")
    shutil.rmtree(source)
    return next(folder.glob("*.whl"))


def add_program(machine: Machine, wheel: Path) -> None:
    """Make /opt/spa in the machine and install the wheel there with pip, without any network."""
    machine.add(wheels_folder(), "/root")
    machine.add(wheel, "/root")
    machine.run("python3", "-m", "venv", "/opt/spa")
    install_wheel(machine, wheel)


def install_wheel(machine: Machine, wheel: Path) -> None:
    """Install the wheel, which is in the machine, in the place of what is there."""
    links = f"/root/{wheels_folder().name}"
    pip = ["/opt/spa/bin/pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--find-links", links]
    machine.run(*pip, "--force-reinstall", "--no-deps", f"/root/{wheel.name}")
    machine.run(*pip, f"/root/{wheel.name}[server]")
