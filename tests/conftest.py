"""Fixtures that several folders of tests share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


_TESTS = Path(__file__).parent
_MACHINES, _OF_MACHINES = "machines", ("systemd", "docs")
"""The folders whose tests share booted machines, which take long to make."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the booted machines comes first, for it takes longest."""
    items.sort(key=lambda item: _group(item.path.relative_to(_TESTS).as_posix()) != _MACHINES)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several processes run tests: one takes a file whole, and one takes all that need the booted machines.

    (Marks for `--dist loadgroup` group nothing with pytest 9.2 and pytest-xdist 3.8.)
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid.partition("::")[0].removeprefix("tests/"))

    return ByGroup(config, log)


def _group(path: str) -> str:
    return _MACHINES if path.partition("/")[0] in _OF_MACHINES else path


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
