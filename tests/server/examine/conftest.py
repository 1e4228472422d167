"""Servers for these tests."""

from __future__ import annotations

import pytest

from tests.lab import Lab
from tests.server.examine.site import Site


@pytest.fixture
def site(lab: Lab) -> Site:
    """A server without rules."""
    return Site(lab)


@pytest.fixture
def inner_site(inner_lab: Lab) -> Site:
    """The same with an inner host."""
    return Site(inner_lab)
