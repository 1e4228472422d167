"""Fixtures that several folders of tests share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.lab import Lab, LabError, check_surroundings

# How long one example takes says something of the machine only, which may stop any process for seconds.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")

# A shell starts what it runs in the background with the first ignored, nohup with the second, and all that is started
# here would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


_MACHINES = ("systemd", "docs")
"""Folders whose tests share booted machines, which take long to make."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes run tests: one takes a file whole, and one takes all that need the booted machines.

    Those come first, for they take longest.
    """
    for item in items:
        at = item.path.relative_to(Path(__file__).parent)
        item.add_marker(pytest.mark.xdist_group("machines" if at.parts[0] in _MACHINES else str(at)))
    items.sort(key=lambda item: item.path.relative_to(Path(__file__).parent).parts[0] not in _MACHINES)


@pytest.fixture(scope="session")
def surroundings() -> None:
    """Fail, never skip, where no namespaces can be made: a pass must mean that the kernel was asked."""
    try:
        check_surroundings()
    except LabError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def lab(surroundings: None) -> Iterator[Lab]:
    """A fresh server with alice, a neighbour and a stranger on its segment."""
    with Lab() as made:
        yield made


@pytest.fixture(scope="module")
def module_lab(surroundings: None) -> Iterator[Lab]:
    """As `lab`, shared by the tests of one module."""
    with Lab() as made:
        yield made


@pytest.fixture
def inner_lab(surroundings: None) -> Iterator[Lab]:
    """As `lab`, with an inner host behind the server."""
    with Lab(inner=True) as made:
        yield made


@pytest.fixture(scope="module")
def module_inner_lab(surroundings: None) -> Iterator[Lab]:
    """As `inner_lab`, shared by the tests of one module."""
    with Lab(inner=True) as made:
        yield made
