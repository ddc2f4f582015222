"""The ``dpapi`` protector: the Data Protection API of Windows, scope LocalMachine.

Every process of that machine may ask Windows to open a LocalMachine blob, so each slot has
32 random bytes of entropy of its own in ``host/<keyring>.<slot>.entropy``, without which
the blob does not open. The scope is recorded with the blob and used exactly; no other one
is tried. The two calls of Windows are handed in, so that tests stand in for them: only a
Windows machine proves this file.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any, Final, Protocol

from identitymesh.errors import HostKeyMissing, HostKeyUnsafe, KeyringBroken, KeyringError, KeyringExists
from identitymesh.redaction import Secret
from identitymesh.secrets.age import checked_identity
from identitymesh.secrets.private_files import UnsafeFile, create_private, read_private
from identitymesh.secrets.protectors import Place, Protector, SlotClass, Traits

TYPE: Final = "dpapi"
FORMAT: Final = "identitymesh-dpapi/1"
ENTROPY_BYTES: Final = 32
ENTROPY_MODE: Final = 0o400
MAX_BYTES: Final = 8192
SCOPES: Final = {"local-machine": 0x4}  # CRYPTPROTECT_LOCAL_MACHINE
SCOPE: Final = "local-machine"
UI_FORBIDDEN: Final = 0x1  # CRYPTPROTECT_UI_FORBIDDEN
TRAITS: Final = Traits(SlotClass.UNATTENDED, 2, "a process on its Windows host that can read the slot's entropy file")


class Calls(Protocol):
    """CryptProtectData and CryptUnprotectData of crypt32.dll; OSError when Windows refuses."""

    def protect(self, value: Secret, entropy: Secret, flags: int) -> bytes: ...

    def unprotect(self, sealed: bytes, entropy: Secret, flags: int) -> Secret: ...


def build(place: Place) -> Protector:
    return DataProtection(place, system_calls())


def system_calls() -> Calls:
    """Those of this system."""
    return _Windows() if sys.platform == "win32" else _Elsewhere()


class DataProtection:
    """One blob of one Windows host."""

    type = TYPE
    traits = TRAITS

    def __init__(self, place: Place, calls: Calls) -> None:
        self._place = place
        self._calls = calls
        self._where = f"keyring {place.keyring}: the DPAPI slot"

    @property
    def entropy_file(self) -> Path:
        return self._place.host / f"{self._place.keyring}.{self._place.slot}.entropy"

    def exists(self) -> bool:
        return self._place.guarded is not None and self.entropy_file.exists()

    def describe(self) -> str:
        return f"DPAPI of this host with {self.entropy_file}"

    def identity(self) -> Secret:
        """What Windows opens with the recorded scope and this slot's entropy.

        Raises:
            HostKeyMissing, HostKeyUnsafe: the entropy file is missing or not to be trusted.
            KeyringBroken: what is stored is no blob of this kind.
            KeyringError: Windows refuses; the blob is of another machine or was changed.
        """
        if self._place.guarded is None:
            raise KeyringError(f"{self._where} has nothing stored", hint=_HINT)
        scope, sealed = _decode(self._place.guarded, self._where)
        try:
            opened = self._calls.unprotect(sealed, self._entropy(), UI_FORBIDDEN | SCOPES[scope])
        except OSError as error:
            raise self._refused(error) from None
        return checked_identity(opened, self._where)

    def guard(self, identity: Secret) -> bytes | None:
        """Write new entropy, then have Windows protect the identity with it.

        Raises:
            KeyringExists: this slot has entropy already.
            KeyringError: Windows refuses, or this is no Windows.
        """
        try:
            create_private(self.entropy_file, Secret(os.urandom(ENTROPY_BYTES)), mode=ENTROPY_MODE)
        except FileExistsError:
            raise KeyringExists(f"{self._where}: {self.entropy_file} exists already") from None
        try:
            sealed = self._calls.protect(identity, self._entropy(), UI_FORBIDDEN | SCOPES[SCOPE])
        except OSError as error:
            self.remove()
            raise self._refused(error) from None
        fields = {"format": FORMAT, "scope": SCOPE, "blob": base64.b64encode(sealed).decode()}
        return json.dumps(fields, sort_keys=True).encode()

    def remove(self) -> None:
        self.entropy_file.unlink(missing_ok=True)

    def _entropy(self) -> Secret:
        try:
            entropy = read_private(self.entropy_file, modes=(ENTROPY_MODE,), max_bytes=ENTROPY_BYTES)
        except FileNotFoundError:
            raise HostKeyMissing(f"{self._where}: its entropy {self.entropy_file} is missing", hint=_HINT) from None
        except UnsafeFile as reason:
            raise HostKeyUnsafe(
                f"{self._where}: its entropy {self.entropy_file} may not be trusted: {reason}", hint=_HINT
            ) from None
        return entropy

    def _refused(self, error: OSError) -> KeyringError:
        reason = error.strerror or type(error).__name__
        return KeyringError(f"{self._where}: Windows does not open or make it: {reason.lower()}", hint=_HINT)


_HINT: Final = (
    "It opens on the Windows machine that made it alone. Use another slot or the recovery key, then remove this slot."
)


def _decode(guarded: bytes, where: str) -> tuple[str, bytes]:
    try:
        fields = json.loads(guarded) if len(guarded) <= MAX_BYTES else {}
        if fields.keys() != {"format", "scope", "blob"} or fields["format"] != FORMAT or fields["scope"] not in SCOPES:
            raise ValueError("format")  # noqa: TRY301 - one refusal for everything that is wrong with it
        return fields["scope"], base64.b64decode(fields["blob"], validate=True)
    except (ValueError, TypeError, AttributeError):
        raise KeyringBroken(f"{where}: what is stored is not a DPAPI blob of a known scope", hint=_HINT) from None


class _Elsewhere:
    """Where there is no DPAPI."""

    def protect(self, value: Secret, entropy: Secret, flags: int) -> bytes:  # noqa: ARG002 - refused whatever it is
        raise OSError(None, "this is not Windows")

    def unprotect(self, sealed: bytes, entropy: Secret, flags: int) -> Secret:  # noqa: ARG002 - as above
        raise OSError(None, "this is not Windows")


class _Blob(ctypes.Structure):
    """DATA_BLOB of wincrypt.h."""

    _fields_ = (("size", ctypes.c_uint32), ("data", ctypes.c_void_p))


class _Windows:
    """The calls as crypt32.dll has them. Proven on Windows alone."""

    def protect(self, value: Secret, entropy: Secret, flags: int) -> bytes:
        return self._call("CryptProtectData", value, entropy, flags).reveal()

    def unprotect(self, sealed: bytes, entropy: Secret, flags: int) -> Secret:
        return self._call("CryptUnprotectData", Secret(sealed), entropy, flags)

    def _call(self, name: str, value: Secret, entropy: Secret, flags: int) -> Secret:
        windows: Any = ctypes
        crypt32 = windows.WinDLL("crypt32", use_last_error=True)
        kernel32 = windows.WinDLL("kernel32", use_last_error=True)
        kernel32.LocalFree.argtypes = [ctypes.c_void_p]
        content, more = _buffer(value), _buffer(entropy)
        given, extra, answer = _Blob(len(content), _at(content)), _Blob(len(more), _at(more)), _Blob()
        done = getattr(crypt32, name)(
            ctypes.byref(given), None, ctypes.byref(extra), None, None, flags, ctypes.byref(answer)
        )
        if not done:
            raise windows.WinError(windows.get_last_error())
        try:
            return Secret(ctypes.string_at(answer.data, answer.size))
        finally:
            ctypes.memset(answer.data, 0, answer.size)
            kernel32.LocalFree(answer.data)


def _buffer(value: Secret) -> ctypes.Array[ctypes.c_char]:
    content = value.reveal()
    return ctypes.create_string_buffer(content, len(content))


def _at(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)
