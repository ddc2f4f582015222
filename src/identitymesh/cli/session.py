"""What one call of the command line carries from its options to its commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from identitymesh.cli.contract import Initialise, Installation, InstallationOpener
from identitymesh.cli.custody import Custody, KeptInstallation
from identitymesh.cli.output import Output


@dataclass(frozen=True, slots=True)
class Openers:
    """How an installation is opened and made; composition knows."""

    open_installation: InstallationOpener
    initialise: Initialise
    custody: Custody | None = None


@dataclass(slots=True)
class Session:
    """One call: where it prints, and the installation that it is about."""

    out: Output
    openers: Openers
    home: Path | None = None
    debug: bool = False
    when_stopped: str = "stopped"

    @contextmanager
    def installation(self) -> Iterator[Installation]:
        """The opened installation; what it has to say goes to standard error first."""
        with self.openers.open_installation(self.home) as installation:
            for finding in installation.findings:
                self.out.warning(finding)
            yield installation

    @property
    def custody(self) -> Custody:
        """Backups, rotations and what else keeps an installation alive."""
        if self.openers.custody is None:
            raise TypeError("this program was started without the custody of secrets")
        return self.openers.custody

    @contextmanager
    def kept(self) -> Iterator[KeptInstallation]:
        """The opened installation with its custody; what it has to say goes to standard error first."""
        with self.custody.open(self.home) as installation:
            for finding in installation.findings:
                self.out.warning(finding)
            yield installation


def session_of(ctx: typer.Context) -> Session:
    """The session that the call began with."""
    session = ctx.find_root().obj
    if not isinstance(session, Session):
        raise TypeError("a command was called without its session")
    return session
