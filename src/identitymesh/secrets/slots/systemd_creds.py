"""The ``systemd-creds`` protector: the identity as an encrypted credential of systemd.

Two ways. As root, the encrypted credential lies beside the keyring row and ``systemd-creds
decrypt`` opens it. For a service user it is delivered: the same bytes in
``/etc/credstore.encrypted/`` and ``LoadCredentialEncrypted=`` in the unit, and systemd puts
the opened credential under ``$CREDENTIALS_DIRECTORY``, in memory, for that service alone.

The name is bound (``identitymesh-<keyring>``). Values go through standard input and
output. systemd also knows a null key, which protects nothing: it is refused here.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
import subprocess
from pathlib import Path
from typing import Final

from identitymesh.errors import HostKeyMissing, HostKeyUnsafe, KeyringBroken, KeyringError
from identitymesh.redaction import Secret
from identitymesh.secrets.age import IDENTITY_BYTES, checked_identity
from identitymesh.secrets.process import child_environment
from identitymesh.secrets.protectors import SYSTEMD_CREDS, Place, Protector, SlotClass, Traits

SECONDS: Final = 30.0
MAX_BYTES: Final = 8192
MEMORY_FILE_SYSTEMS: Final = ("ramfs", "tmpfs")
PROGRAM: Final = "systemd-creds"
TRAITS: Final = Traits(
    SlotClass.UNATTENDED,
    2,
    "root on its host; without a TPM also whoever has a copy of that host's disk and of the database",
)
# The first 16 bytes of a credential name its key (systemd, src/shared/creds-util.h). Others, the null key among
# them (058469da...), are refused.
KEYS: Final = {
    "5a1c6a86df9d4096b1d5a65e0862f19a": "host",
    "0c7cc07b117645919c4b0bea08bc20fe": "tpm2",
    "faf7eb9341e3412ca1a436f95a29362f": "tpm2 with public key",
    "93a894094874449090caf2fc93cab553": "host+tpm2",
    "af4950a849134eb1a73846304ff30c05": "host+tpm2 with public key",
}


def build(place: Place) -> Protector:
    return SystemdCredential(place)


def credential_name(keyring: str) -> str:
    """The name that is bound into the credential, and that a unit delivers it under."""
    return f"identitymesh-{keyring}"


class SystemdCredential:
    """One encrypted credential, opened here or delivered opened."""

    type = SYSTEMD_CREDS
    traits = TRAITS

    def __init__(self, place: Place) -> None:
        self._place = place
        self._name = credential_name(place.keyring)
        self._where = f"keyring {place.keyring}: the systemd credential {self._name}"

    @property
    def _delivered(self) -> Path | None:
        folder = self._place.means.credentials
        path = folder / self._name if folder is not None else None
        return path if path is not None and (path.exists() or path.is_symlink()) else None

    def exists(self) -> bool:
        return self._delivered is not None or self._place.guarded is not None

    def describe(self) -> str:
        return str(self._delivered or f"the systemd credential {self._name}")

    def identity(self) -> Secret:
        """The identity, as delivered to this service or decrypted here.

        Raises:
            HostKeyMissing: there is neither.
            HostKeyUnsafe: it is delivered in a way that others can read.
            KeyringError: systemd-creds refuses it, with its reason.
        """
        if self._place.guarded is not None:
            _check_key(self._place.guarded, self._where)
        delivered = self._delivered
        if delivered is not None:
            return checked_identity(_read_delivered(delivered), self._where)
        if self._place.guarded is None:
            raise HostKeyMissing(
                f"{self._where} is neither delivered nor in the database",
                hint="Start the service through its unit with LoadCredentialEncrypted=, or use another slot.",
            )
        opened = self._call("decrypt", Secret(self._place.guarded))
        return checked_identity(opened, self._where)

    def guard(self, identity: Secret) -> bytes | None:
        """Encrypt under the keys of this machine, with its TPM where it has one.

        Raises:
            KeyringError: systemd-creds is missing or refuses.
        """
        sealed = self._call("encrypt", identity, "--with-key=auto").reveal()
        _check_key(sealed, self._where)
        return sealed

    def remove(self) -> None:
        """What was made lies in the database; a copy in a credential store is taken away by who put it there."""

    def _call(self, verb: str, value: Secret, *options: str) -> Secret:
        environment = child_environment()
        if self._place.means.systemd_secret is not None:
            environment["SYSTEMD_CREDENTIAL_SECRET"] = str(self._place.means.systemd_secret)
        command = [PROGRAM, verb, *options, f"--name={self._name}", "-", "-"]
        try:
            child = subprocess.run(
                command,
                input=value.reveal(),
                capture_output=True,
                env=environment | {"PATH": f"{os.defpath}:/usr/sbin:/sbin"},
                timeout=SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise KeyringError(f"{self._where}: this host has no {PROGRAM}", hint=_HINT) from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise KeyringError(f"{self._where}: {PROGRAM} did not run: {type(error).__name__}", hint=_HINT) from None
        if child.returncode != 0:
            # What it prints on standard error names files and reasons, never the credential.
            reason = child.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
            raise KeyringError(f"{self._where} does not {verb} on this host: {reason[0][:200]}", hint=_HINT)
        return Secret(child.stdout)


_HINT: Final = "It works as root, on the host that made it (systemd 250 or later). Another slot opens the keyring too."


def _check_key(sealed: bytes, where: str) -> None:
    try:
        key = base64.b64decode(b"".join(sealed.split()), validate=True)[:16].hex()
    except binascii.Error:
        key = ""
    if key not in KEYS:
        raise KeyringBroken(
            f"{where} is not encrypted under a key of a host or of a TPM",
            hint="A null key protects nothing. Remove this slot and add it anew.",
        )


def _read_delivered(path: Path) -> Secret:
    handle = -1
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        found = os.fstat(handle)
        problem = _problem(path, found)
        content = Secret(os.read(handle, MAX_BYTES))
    except OSError as error:
        problem, content = (error.strerror or type(error).__name__).lower(), Secret(b"")
    finally:
        if handle >= 0:
            os.close(handle)
    if problem:
        raise HostKeyUnsafe(
            f"the delivered credential {path} may not be trusted: {problem}",
            hint="Have systemd deliver it: LoadCredentialEncrypted= in the unit of the service.",
        )
    return Secret(content.reveal()[: IDENTITY_BYTES + 1].strip())


def _problem(path: Path, found: os.stat_result) -> str:
    if not stat.S_ISREG(found.st_mode):
        return "it is not a regular file"
    if found.st_mode & 0o037:
        return f"its mode is {stat.S_IMODE(found.st_mode):04o}; systemd delivers 0400 or 0440"
    if found.st_uid not in (0, os.geteuid()):
        return f"it belongs to user id {found.st_uid}"
    kind = _file_system(path)
    return "" if kind in MEMORY_FILE_SYSTEMS else f"it lies on {kind or 'an unknown file system'}, not in memory"


def _file_system(path: Path) -> str:
    """The type of the file system that a path is on (proc(5), mountinfo): the longest mount point wins."""
    best, kind = -1, ""
    real = path.parent.resolve()
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        mounted = Path(before.split()[4])
        if real.is_relative_to(mounted) and len(mounted.parts) >= best:
            best, kind = len(mounted.parts), after.split()[0]
    return kind
