"""The command line with the imitation, as a program of its own: for terminals, pipes and signals.

python -m tests.cli.program FAULT PROGRAM ARGUMENT ...     FAULT: none, hang, crash
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from identitymesh.cli.main import run, run_secretscli
from tests.cli.imitation import FakeInstallation, rows, run_report


class Faulty:
    """What a test wants to happen in the middle of a plan."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def __call__(self, *_arguments: object) -> None:
        if self.fault == "crash":
            credential = "hunter2"
            raise RuntimeError(f"a driver that repeats the password {credential}")
        if self.fault == "hang":
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            time.sleep(30)


def main() -> int:
    fault, program, *arguments = sys.argv[1:]
    installation = FakeInstallation()
    engine = installation.engine
    engine.plan_rows = rows(2000)
    engine.history = [run_report(number) for number in range(3000)]
    engine.before_plan = Faulty(fault)
    entry = run if program == "identitymesh" else run_secretscli
    code = entry(open_installation=installation.open, initialise=installation.initialise, argv=arguments)
    for reference, value in installation.secrets.stored.items():
        sys.stderr.write(f"STORED {reference} {value!r}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
