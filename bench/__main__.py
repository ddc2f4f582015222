"""`make bench` prints the table, `make bench-all` (`--all`) also that of custody; 1 when a line misses its reach."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict

from bench import columns, custody, directories, lifecycle, lines, migration, synchronisation, vaults
from identitymesh.cli.measuring import Line

LINES: tuple[Callable[[], Line | list[Line]], ...] = (
    lines.the_program_as_a_process,
    synchronisation.two_hundred_thousand_people,
    synchronisation.a_million_people,
    directories.read_a_directory,
    directories.adds_to_a_directory,
    lines.creates_at_a_scim_service,
    lines.one_secret,
    lifecycle.days_and_unique_values,
)
CUSTODY: tuple[Callable[[], Line | list[Line]], ...] = (
    custody.join_a_new_host,
    custody.restore_on_a_new_host,
    custody.drill,
    custody.rotate_under_load,
    columns.columns_compatible,
    columns.columns_sealed,
    columns.columns_killed,
    vaults.fifty_secrets_of_a_slow_vault,
    vaults.ten_minutes_without_a_vault,
    migration.migrate_to_openbao,
    migration.migrate_to_a_key_vault,
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--only", default="", help="lines whose name contains this")
    parser.add_argument("--all", action="store_true", help="with the table of custody, which takes ten minutes")
    chosen = parser.parse_args()
    found: list[Line] = []
    for measure in LINES + (CUSTODY if chosen.all else ()):
        if chosen.only not in measure.__name__:
            continue
        answer = measure()
        for line in answer if isinstance(answer, list) else [answer]:
            found.append(line)
            if not chosen.json:
                verdict = "ok  " if line.reached else "MISS"
                sys.stdout.write(f"{verdict} {line.name}\n     {line.ratio:.2f} ({line.reach}); {line.figures}\n")
                sys.stdout.flush()
    if chosen.json:
        sys.stdout.write(json.dumps([asdict(line) | {"reached": line.reached} for line in found], indent=2) + "\n")
    return 0 if all(line.reached for line in found) else 1


if __name__ == "__main__":
    sys.exit(main())
