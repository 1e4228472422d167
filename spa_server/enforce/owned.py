"""Putting the perimeter up in a table that nobody else can change, without an instant in which none stands.

nft cannot load into a table that another socket owns, nor make one that outlives its owner. So the new table is made
over netlink, let go, loaded by nft as the orphan it then is, and owned again; and what stood before is not touched
until a complete closed table of another name (a hold table), owned too, stands beside it. It must not know of daemons.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence

from spa_server.enforce.carried import Carried, take
from spa_server.enforce.nft_program import PerimeterError, RulesetRefused, load
from spa_server.enforce.ruleset import HOLD_TABLES, TABLE, hold_ruleset, rules_in, ruleset
from spa_server.enforce.table import OwnedElsewhere, TableSocket
from spa_server.service import Service

_log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often loading is tried: in the milliseconds in which the new table is nobody's, it may be flushed or changed."""


def put_up(knock_ports: Sequence[int], services: Sequence[Service], former: TableSocket | None = None) -> TableSocket:
    """Put the perimeter up anew, live leases included, and own it; armed tags do not live through it.

    `former` owns the table that stands, if anyone does; it owns nothing any more when this returns. Raises NotOwnable
    or OwnedElsewhere before anything is changed; PerimeterError or KernelError when the new one could not be put up:
    then the old one or the hold table keeps everything closed, and trying again is safe.
    """
    with contextlib.ExitStack() as stack:
        at_table = former or stack.enter_context(TableSocket(TABLE))
        state = at_table.state()
        if state is not None and state.owner_port and not at_table.owns():
            raise OwnedElsewhere(TABLE)
        old_holds = [name for name in HOLD_TABLES if _stands(name)]
        carried = take((TABLE, *old_holds), services)
        if len(old_holds) == len(HOLD_TABLES):
            _remove_the_emptiest(old_holds)
        holds = []
        if state is not None or old_holds:
            name = next(name for name in HOLD_TABLES if name not in old_holds)
            text = hold_ruleset(name, knock_ports, services)
            hold = stack.enter_context(_loaded(name, lambda: text + carried.element_lines(name)))
            carried.settle(hold)
            holds.append(hold)
            at_table.delete()
        owner = _new_table(knock_ports, services, carried)
        for hold in (*holds, *(stack.enter_context(TableSocket(name)) for name in old_holds)):
            hold.delete()
    return owner


def _new_table(knock_ports: Sequence[int], services: Sequence[Service], carried: Carried) -> TableSocket:
    text = ruleset(knock_ports, services, carried.counted)
    owner = _loaded(TABLE, lambda: text + carried.element_lines(TABLE))
    try:
        carried.settle(owner)
    except BaseException:
        owner.close()
        raise
    return owner


def _loaded(name: str, text: Callable[[], str]) -> TableSocket:
    """A new table that holds what the text says, owned by the socket that is returned."""
    for attempt in range(1, ATTEMPTS + 1):
        with TableSocket(name) as maker:
            maker.own()
        lines = text()
        refusal: PerimeterError | None = None
        try:
            load(lines)
        except PerimeterError as error:
            refusal = error
        owner = TableSocket(name)
        try:
            owner.own()
            if refusal is None and owner.rules() == rules_in(lines):
                return owner
            owner.delete()
        except BaseException:
            owner.close()
            raise
        owner.close()
        if refusal is not None and (attempt == ATTEMPTS or not isinstance(refusal, RulesetRefused)):
            raise refusal
        _log.warning("table inet %s was changed while it was being put up (attempt %d)", name, attempt)
    raise PerimeterError(f"table inet {name} is changed by another program whenever it is put up")


def _remove_the_emptiest(holds: list[str]) -> None:
    """Make room where replacement after replacement was cut short: each left a table, whole or without any rule."""

    def rules(name: str) -> int:
        with TableSocket(name) as nft:
            return nft.rules().total()

    name = min(holds, key=rules)
    with TableSocket(name) as nft:
        nft.delete()
    holds.remove(name)


def _stands(name: str) -> bool:
    with TableSocket(name) as nft:
        return nft.state() is not None
