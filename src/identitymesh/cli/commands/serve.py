"""Carry out what is due by the schedules, until told to stop."""

from __future__ import annotations

import signal
import threading

import typer

from identitymesh.cli.session import session_of


def register(app: typer.Typer) -> None:
    app.command("serve")(serve)


def serve(ctx: typer.Context) -> None:
    """Carry out what is due by the schedules of the definition, until SIGTERM or Ctrl-C.

    What goes on then may come to its end (setting schedule.stop_seconds); what does not is stopped, and carried out
    again when the service comes back. Several may serve one installation: each due run happens once. The log says what
    it does.
    """
    session = session_of(ctx)
    stop = threading.Event()

    def told(_signal: int, _frame: object) -> None:
        stop.set()

    before = {number: signal.signal(number, told) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        session.custody.serve(session.home, stop)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if session.out.json:
        session.out.document({"stopped": True})
    else:
        session.out.line("stopped; what was due and not carried out stays due")
