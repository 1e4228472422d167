"""Fixtures that several folders of tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.lab import Lab, LabError, check_surroundings

# How long one example takes says something of the machine only, which may stop any process for seconds.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")


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
