"""A TPM 2.0 in software (swtpm), reached over loopback. Each one has a seed of its own: another machine's chip."""

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from tests.servers.process import ServerFailed, ServerProcess, free_port, need, private_folder

START_ATTEMPTS = 5
ANSWERS = "import sys, tpm2_pytss\nwith tpm2_pytss.ESAPI(sys.argv[1]) as chip: chip.get_random(8)"


@dataclass(slots=True)
class SoftwareTpm:
    tcti: str
    process: ServerProcess
    folder: Path

    @classmethod
    def start(cls) -> Self:
        """The control port must be the next one: that is how the TCTI finds it."""
        program = need("swtpm", "swtpm")
        if importlib.util.find_spec("tpm2_pytss") is None:
            pytest.skip("tpm2-pytss is not installed (extra [tpm]; Debian packages libtss2-dev, gcc, pkg-config)")
        for attempt in range(1, START_ATTEMPTS + 1):
            folder, port = private_folder("tpm"), free_port()
            argv = [program, "socket", "--tpm2", "--tpmstate", f"dir={folder}"]
            argv += ["--server", f"type=tcp,port={port},bindaddr=127.0.0.1"]
            argv += ["--ctrl", f"type=tcp,port={port + 1},bindaddr=127.0.0.1"]
            argv += ["--flags", "not-need-init,startup-clear"]
            tcti = f"swtpm:host=127.0.0.1,port={port}"
            chip = cls(tcti, ServerProcess(argv, folder / "log"), folder)
            try:
                chip.process.start(chip._answers)
            except ServerFailed:
                shutil.rmtree(folder, ignore_errors=True)
                if attempt == START_ATTEMPTS:
                    raise
                continue
            return chip
        raise AssertionError

    def _answers(self) -> bool:
        # In a process of its own: the library prints what it cannot reach on standard error.
        environment = os.environ | {"TSS2_LOG": "all+NONE"}
        child = subprocess.run(
            [sys.executable, "-c", ANSWERS, self.tcti], env=environment, capture_output=True, check=False
        )
        return child.returncode == 0

    def stop(self) -> None:
        self.process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
