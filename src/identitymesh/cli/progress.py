"""Progress on a terminal: one bar for each thing that is read, evaluated or written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from identitymesh.cli.text import clean
from identitymesh.runs.reports import Progress as Reporting


@contextmanager
def bars(stream: TextIO, *, coloured: bool) -> Iterator[Reporting]:
    """Bars on this terminal until the work ends; they leave nothing behind."""
    console = Console(file=stream, force_terminal=True, no_color=not coloured, markup=False, highlight=False)
    display = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    tasks: dict[tuple[str, str], TaskID] = {}

    def report(phase: str, subject: str, done: int, total: int | None) -> None:
        place = (phase, subject)
        if place not in tasks:
            title = Text(clean(f"{phase} {subject}".strip()))
            tasks[place] = display.add_task(title.plain, total=total)
        display.update(tasks[place], completed=done, total=total)

    with display:
        yield report
