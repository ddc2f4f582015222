"""What an application asks at its start: is everything encrypted, and with this key?"""

from __future__ import annotations

import os
from pathlib import Path

from identitymesh.columns.encrypting import ROTATING, UPGRADING
from identitymesh.columns.opening import open_plan, settle_key
from identitymesh.columns.places import ColumnPlace
from identitymesh.columns.plan import read_plan
from identitymesh.columns.session import Structure, Target, Which
from identitymesh.errors import ColumnsUnfinished


def check(plan: str | os.PathLike[str], *, allow_plaintext: bool = False) -> None:
    """Raise unless every place of a plan is encrypted, and the key opens it.

    Args:
        plan: the plan file; its login only reads here.
        allow_plaintext: while old and new programs work side by side, plain values may remain beside
            encrypted ones. A plain value that has no encrypted one is never allowed.

    Raises:
        ColumnsUnfinished: columns are missing or plain values remain; the hint is the command to run.
        ColumnKeyMissing, ColumnKeyUnsafe, ColumnKeyWrong: as the command line says.
    """
    file = Path(plan)
    with open_plan(read_plan(file)) as work:
        states = work.states()
        for target in work.targets:
            structure = target.inspect(writing=False)
            _check_place(target, structure, file, allow_plaintext=allow_plaintext)
            state = states.get(target.place.name)
            if state is not None and state.step in {ROTATING, UPGRADING}:
                command = "rotate-key" if state.step == ROTATING else "upgrade"
                raise ColumnsUnfinished(
                    f"{target.place.name}: `columns {command}` has not ended",
                    hint=f"Run it again: identitymesh columns {command} --plan {file}",
                )
        settle_key(work)


def _check_place(target: Target, structure: Structure, file: Path, *, allow_plaintext: bool) -> None:
    name = target.place.name
    command = f"Run: identitymesh columns encrypt --plan {file}"
    if isinstance(target.place, ColumnPlace) and not structure.has_cells:
        raise ColumnsUnfinished(
            f"{name} is not encrypted: its table has no {target.place.encrypted} and {target.place.nonce}", hint=command
        )
    if target.scan(Which.PENDING, None, 1):
        raise ColumnsUnfinished(f"{name} has plain values that are not encrypted", hint=command)
    if structure.has_plain and not allow_plaintext:
        raise ColumnsUnfinished(
            f"{name} still has its plain values beside the encrypted ones", hint=f"{command} --drop-plaintext"
        )
