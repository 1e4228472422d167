"""As root, commands work in folders of unprivileged users without following what those put there."""

from __future__ import annotations

import os
from pathlib import Path

from spa_server.privilege import acting_as_owner_of

NOBODY = 65534


def test_root_acts_as_the_owner_of_a_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    with acting_as_owner_of(tmp_path):
        assert os.geteuid() == NOBODY
    assert os.geteuid() == 0


def test_where_the_folder_is_gone_root_is_whoever_could_put_another_there(tmp_path: Path) -> None:
    """A link to a folder of root's, say, in the moment between looking and opening."""
    os.chown(tmp_path, NOBODY, NOBODY)
    with acting_as_owner_of(tmp_path / "gone" / "further"):
        assert os.geteuid() == NOBODY
