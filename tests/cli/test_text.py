"""Tables in a pipe: in columns, as Rich would draw them, without waiting for Rich."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from identitymesh.cli.output import Output
from identitymesh.cli.text import columns_of

ROWS = [
    ["name", "people", "about"],
    ["Zoë", "1,000", "plain"],
    ["山田太郎", "7", "two cells for each letter"],
    ["e\u0301te\u0301", "12", "accents of their own"],
    ["\uff46\uff55\uff4c\uff4c", "", ""],
    ["", "3", " ".join(["한국어"] * 60)],
]


def drawn_by_rich(rows: Sequence[Sequence[str]], right: Sequence[int]) -> str:
    table = Table(box=None, pad_edge=False, header_style="")
    for number, title in enumerate(rows[0]):
        table.add_column(title, justify="right" if number in right else "left")
    for row in rows[1:]:
        table.add_row(*map(Text, row))
    console = Console(file=io.StringIO(), width=10_000, no_color=True)
    with console.capture() as captured:
        console.print(table)
    return "".join(line.rstrip() + "\n" for line in captured.get().splitlines())


@pytest.mark.parametrize("right", [(), (1,), (0, 2)])
def test_columns_are_as_rich_draws_them(right: tuple[int, ...]) -> None:
    assert columns_of(ROWS, right) == drawn_by_rich(ROWS, right)
    assert columns_of(ROWS[:1], right) == drawn_by_rich(ROWS[:1], right)


def test_what_a_terminal_would_act_on_stands_in_a_piped_table_as_its_number() -> None:
    out = io.StringIO()
    Output(stdout=out, stderr=io.StringIO()).table(["a", "b"], [["x\x1b[2Jy", "\u202e"], ["longer than that", "1"]])
    assert out.getvalue().splitlines()[1] == "x\\x1b[2Jy" + " " * 9 + "\\u202e"
