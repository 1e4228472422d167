"""A server namespace with a configuration, and a keeper that tests start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.running import open_folder
from tests.lab import Lab
from tests.server.keeper.running import Kept, Manager


@pytest.fixture
def kept(module_lab: Lab) -> Iterator[Kept]:
    """A server whose keeper is not started yet; at the end nothing of it is left."""
    with open_folder() as folder:
        made = Kept(module_lab, folder, Manager(folder))
        made.configure()
        try:
            yield made
        finally:
            print(made.log())
            made.close()
            module_lab.server.run(["nft", "flush", "ruleset"])
