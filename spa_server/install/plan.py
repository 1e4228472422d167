"""All steps of `install` and of `uninstall`, in their order.

What only the commands know how to do (making keys and configuration, taking the perimeter down) is given to it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from spa_server.install import accounts, files, layout, service
from spa_server.install.step import Step


@dataclass(frozen=True, slots=True)
class Served:
    """What of the configuration the service depends on. `tells`: whether people are told of requests."""

    knock_ports: tuple[int, ...]
    tells: bool = False


def install_steps(
    executable: Path, make_server: Callable[[], object], served: Callable[[], Served], *, start: bool
) -> Iterator[Step]:
    """The steps that put the service on this host.

    `make_server` writes the configuration and makes keys and state, where there is none; `served` reads the
    configuration, which by then is there.
    """
    for file in layout.account_files():
        yield files.write(file)
    yield accounts.make_users()
    yield service.make_run_folder()
    yield Step(
        f"make {layout.CONFIG}, {layout.KEY} and {layout.STATE}", lambda: os.path.lexists(layout.CONFIG), make_server
    )
    yield files.move_secret(layout.STATE / layout.KEY.name, layout.KEY)
    yield files.let_read(layout.CONFIG, layout.GROUP)
    yield files.let_read(layout.POLICY, layout.GROUP)
    drop_in = layout.drop_in(served().knock_ports)
    units = [*layout.unit_files(executable), *([drop_in] if drop_in else [])]
    stale = [] if drop_in else [layout.drop_in_path(layout.SERVER)]
    are_read = all(unit.stands() for unit in units) and not any(map(os.path.lexists, stale))
    for unit in units:
        yield files.write(unit)
    for path in stale:
        yield files.remove(path)
    yield service.label((layout.CONFIG.parent, layout.STATE, layout.UNIT_FOLDER, executable.parent))
    yield service.read_units(are_read=are_read)
    tells = served().tells
    names = (*layout.UNITS, layout.NOTIFIER) if tells else layout.UNITS
    for name in names:
        yield service.enable(name, executable)
    if start:
        for name in names:
            yield service.start(name)
    if not tells:
        yield service.stop(layout.NOTIFIER)


def uninstall_steps(take_perimeter_down: Step, *, purge: bool) -> Iterator[Step]:
    """The steps that take it off again; with `purge` also the configuration, the keys and the state."""
    units = (*layout.UNITS, layout.NOTIFIER)
    for unit in reversed(units):
        yield service.stop(unit)
    yield take_perimeter_down
    are_read = not any(os.path.lexists(layout.UNIT_FOLDER / unit) for unit in units)
    for unit in units:
        yield files.remove(layout.UNIT_FOLDER / unit)
        yield files.remove(layout.drop_in_path(unit))
        yield files.remove_if_empty(layout.drop_in_path(unit).parent)
    yield service.read_units(are_read=are_read)
    for path in (layout.SYSUSERS, layout.TMPFILES, layout.RUN):
        yield files.remove(path)
    yield files.remove_if_empty(layout.SYSUSERS.parent)
    yield files.remove(layout.KEEPER_STATE)
    if purge:
        yield files.remove(layout.STATE, "the registry of devices and the audit trail")
        yield files.remove(layout.KEY, "by which devices know this server")
        yield files.remove(layout.CONFIG)
        yield files.remove(layout.POLICY)
        yield files.remove_if_empty(layout.CONFIG.parent)
    else:
        yield files.give_to_root(layout.STATE)
        yield files.give_to_root(layout.CONFIG.parent)
    for user in layout.USERS:
        yield accounts.remove_user(user)
    yield accounts.remove_group(layout.GROUP)
