"""What a command says at its end: what is still to do, by whom, and with which statements."""

from __future__ import annotations

from collections.abc import Sequence

from identitymesh.columns.plan import Plan
from identitymesh.columns.report import PlaceReport

_OLD_COPIES = (
    "Backups, dumps and replicas made before today still hold the plain values: delete them when a new backup is made, "
    "and change those secrets at their systems that may have been read."
)
_BESIDE = (
    "The values are in clear again, beside the encrypted ones. These go when you run it again with --drop-encrypted."
)
_PURGE = {
    "postgresql": (
        "The dropped values are in the pages of their tables, and samples in the statistics, until you rewrite these:",
        "VACUUM FULL {tables}; VACUUM FULL pg_statistic; CHECKPOINT. Old WAL segments hold them until they are reused.",
    ),
    "sqlite": (
        "Free pages may still hold dropped values until the file is rewritten: VACUUM",
        "and, in WAL mode, PRAGMA wal_checkpoint(TRUNCATE). Journals and copies of the file are files of their own.",
    ),
}


def after_encrypt(reports: Sequence[PlaceReport]) -> tuple[str, ...]:
    hints = []
    pending = sum(found.pending for found in reports)
    if pending:
        hints.append(
            f"{pending:,} plain values were written while this ran. Run it again; `--drop-plaintext` waits for them."
        )
    if not all(found.dropped for found in reports):
        hints.append(
            "The plain values are still there. When every application reads the encrypted ones, run it again with "
            "--drop-plaintext."
        )
    hints.append("Keep the key file in a backup of its own: without it nobody reads these values again.")
    return tuple(hints)


def after_drop(dialect: str, plan: Plan) -> tuple[str, ...]:
    tables = ", ".join(dict.fromkeys(place.table for place in plan.resolved()))
    return (
        _OLD_COPIES,
        *(line.format(tables=tables) for line in _PURGE[dialect]),
        "Keep the key file in a backup of its own: without it nobody reads these values again.",
    )


def after_decrypt(dropped: bool) -> tuple[str, ...]:  # noqa: FBT001 - one caller, who has the name in hand
    if dropped:
        return ("The values are in clear again, and so will be every backup from now on.",)
    return (_BESIDE,)


def after_rotation(old: str, new: str, reports: Sequence[PlaceReport]) -> tuple[str, ...]:
    if not all(found.clean for found in reports):
        return ("The rotation has not ended: mend the rows above, then run the same command again.",)
    return (
        f"Name {new} as the key in the plan, and give applications that file alone.",
        f"Keep {old} as long as backups from before today are kept: their values are under it.",
    )


def after_upgrade() -> tuple[str, ...]:
    return ("Write `format: sealed` into the plan. Columns of nonces are empty now and may stay or be dropped.",)
