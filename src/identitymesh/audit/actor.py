"""Who acts, for commands that run without a login of their own."""

from __future__ import annotations

import os
import socket


def local_actor() -> str:
    """``user@host`` from the operating system. Not from the environment, which anybody can set."""
    host = socket.gethostname()
    if os.name != "posix":
        return f"{os.getlogin()}@{host}"
    import pwd  # there is none on Windows

    uid = os.geteuid()
    try:
        return f"{pwd.getpwuid(uid).pw_name}@{host}"
    except KeyError:
        return f"uid-{uid}@{host}"
