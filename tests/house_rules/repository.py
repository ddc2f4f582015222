"""What the rules look at: the files of this repository."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def tracked_files() -> Iterator[Path]:
    """Every file that is, or would be, committed. The folder may belong to somebody else than who runs the tests."""
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in listing.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            yield ROOT / name


def modules(folder: str) -> Iterator[tuple[str, ast.Module]]:
    """Each Python module below the folder: its path from the root, and what it says."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))
