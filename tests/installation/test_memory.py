"""What a process that makes run after run gives its threads to allocate from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from identitymesh.allocator import ARENAS
from tests.memory import glibc_only

# Eight threads at once, each with something that Python asks the allocator for. malloc_info(3) names the arenas.
PROGRAM = """
import ctypes, sys, threading
from pathlib import Path
from identitymesh.composition import initialise, open_installation

def counted():
    held, met = [], threading.Barrier(8)
    def hold():
        held.append(bytearray(100_000))
        met.wait()
    threads = [threading.Thread(target=hold) for _ in range(8)]
    for one in threads: one.start()
    for one in threads: one.join()
    libc, file = ctypes.CDLL(None), Path(sys.argv[1], "arenas.xml")
    libc.fopen.restype = ctypes.c_void_p
    opened = ctypes.c_void_p(libc.fopen(bytes(file), b"w"))
    libc.malloc_info(0, opened)
    libc.fclose(opened)
    return file.read_text().count("<heap nr=")

if sys.argv[2] == "opened":
    initialise(Path(sys.argv[1]), None, lambda _: None)
    with open_installation(Path(sys.argv[1])):
        print(counted())
else:
    print(counted())
"""


def _arenas(folder: Path, which: str) -> int:
    environment = {
        name: value for name, value in os.environ.items() if name not in {"MALLOC_ARENA_MAX", "GLIBC_TUNABLES"}
    }
    child = subprocess.run(
        [sys.executable, "-c", PROGRAM, folder, which], env=environment, capture_output=True, text=True, check=True
    )
    return int(child.stdout.split()[-1])


@glibc_only
def test_threads_of_an_opened_installation_share_arenas(tmp_path: Path) -> None:
    assert _arenas(tmp_path, "alone") > ARENAS
    assert _arenas(tmp_path, "opened") <= ARENAS
