"""One machine with the service for all tests of this folder, and fresh ones for those that install it themselves."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.laptop import Laptop
from tests.lab import Lab
from tests.systemd.installing import add_program, build_wheel
from tests.systemd.machine import Machine, MachineError, debian_tree
from tests.systemd.service import Service


@pytest.fixture(scope="session")
def session_folder(surroundings: None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="spa-systemd-") as made:
        yield Path(made)


@pytest.fixture(scope="session")
def wheel(session_folder: Path) -> Path:
    """The wheel of this checkout."""
    folder = session_folder / "wheel"
    folder.mkdir()
    try:
        debian_tree()
        return build_wheel(folder)
    except MachineError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def program_layer(session_folder: Path, wheel: Path) -> Path:
    """What pip put onto a minimal Debian, as a layer for the machines of this session."""
    layer, folder = session_folder / "program", session_folder / "installing"
    layer.mkdir()
    folder.mkdir()
    with Lab(()) as lab, Machine(lab.server, folder) as machine:
        add_program(machine, wheel)
        for path in ("/opt/spa", "/root"):
            machine.fetch(path, layer)
    return layer


@pytest.fixture
def fresh_machine(program_layer: Path, lab: Lab, tmp_path: Path) -> Iterator[Machine]:
    """A machine with the program and nothing else, in a lab of its own."""
    with Machine(lab.server, tmp_path, layers=(program_layer,)) as machine:
        yield machine


@pytest.fixture(scope="session")
def running_service(program_layer: Path, session_folder: Path) -> Iterator[Service]:
    """The service, installed and started, on a machine that all tests share."""
    folder = session_folder / "machine"
    folder.mkdir()
    with Lab() as lab, Machine(lab.server, folder, layers=(program_layer,)) as machine:
        service = Service(lab, machine, session_folder)
        service.install()
        yield service


@pytest.fixture(scope="session")
def alice(running_service: Service) -> Laptop:
    """Alice's laptop, enrolled with the shared service."""
    return running_service.enrolled(running_service.lab.clients["alice"], "alice-laptop")


@pytest.fixture
def service(running_service: Service) -> Iterator[Service]:
    """The shared service: configured as at first, serving, nobody inside."""
    running_service.settle()
    yield running_service
    # pytest shows it beside a failure, and only there.
    print(running_service.log())


@pytest.fixture(scope="session")
def bob(running_service: Service) -> Laptop:
    """Bob's laptop, enrolled too, on another host than alice's."""
    return running_service.enrolled(running_service.lab.clients["neighbour"], "bob-laptop")
