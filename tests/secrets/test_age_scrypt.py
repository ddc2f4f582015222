"""Age files for a passphrase: the same format as other programs have, and no clock in it."""

from __future__ import annotations

import base64
import re
import time

import pyrage
import pytest

from identitymesh.redaction import Secret
from identitymesh.secrets import age_scrypt
from identitymesh.secrets.age_scrypt import NotOpened, open_sealed, seal, work_factor
from identitymesh.secrets.slots.passphrase import MAX_WORK_FACTOR, WORK_FACTOR

PASSPHRASE = Secret("a long passphrase of somebody")
CONTENT = Secret("AGE-SECRET-KEY-1 of a test")
QUICK = 4
# Made with pyrage 1.4.0, which is the Rust implementation of age.
OF_ANOTHER_PROGRAM = base64.b64decode(
    "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCBMYk03aytJbWhDSnpBM1Q5SWZCVmRnIDE4CmpWbUhzcGIvWUF4Q2xUZWRLSCtxSTlWNHU5"
    "R0dnZ2ZQZm9aWXdpQ1Vrd1EKLS0tIEhoNkY1dFBYajZSRmdqdUtDUHVkanlNMXFXR3lBaSt2eEJuOEs5dFBTMFkKJCZY7haIoQr4u3ucNaD6C2iE"
    "8/89BmphUerok6tpmIfltsI8rd75T7I2+MH6dYtN2DhF1UUc/6aCSA=="
)


def test_what_another_program_made_opens() -> None:
    assert work_factor(OF_ANOTHER_PROGRAM) == 18
    assert open_sealed(OF_ANOTHER_PROGRAM, PASSPHRASE) == CONTENT


@pytest.mark.parametrize("content", [b"", b"x", bytes(1000), bytes(age_scrypt.CHUNK)])
def test_another_program_opens_what_this_makes(content: bytes) -> None:
    sealed = seal(Secret(content), PASSPHRASE, QUICK)
    assert pyrage.passphrase.decrypt(sealed, PASSPHRASE.reveal_text()) == content
    assert open_sealed(sealed, PASSPHRASE) == Secret(content)


def test_the_work_does_not_hang_on_how_fast_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> float:
        raise AssertionError("somebody looked at a clock")

    for clock in ("time", "monotonic", "perf_counter", "process_time"):
        monkeypatch.setattr(time, clock, never)
    assert {work_factor(seal(CONTENT, PASSPHRASE, QUICK)) for _ in range(5)} == {QUICK}
    assert 18 == WORK_FACTOR <= MAX_WORK_FACTOR


def test_every_damaged_bit_and_every_truncation_is_refused() -> None:
    sealed = seal(CONTENT, PASSPHRASE, QUICK)
    for at in range(len(sealed)):
        for bit in range(8):
            changed = sealed[:at] + bytes([sealed[at] ^ (1 << bit)]) + sealed[at + 1 :]
            if (work_factor(changed) or QUICK) <= 10:
                with pytest.raises(NotOpened):
                    open_sealed(changed, PASSPHRASE)
        with pytest.raises(NotOpened):
            open_sealed(sealed[:at], PASSPHRASE)
    for more in (sealed + b"\0", sealed + sealed, b"\n" + sealed):
        with pytest.raises(NotOpened):
            open_sealed(more, PASSPHRASE)


def test_base64_in_another_spelling_is_refused() -> None:
    sealed = seal(CONTENT, PASSPHRASE, QUICK)
    salt = re.search(rb"scrypt (\S{22}) ", sealed)
    assert salt is not None
    last = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".index(salt[1][-1:])
    other = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[last ^ 1 : (last ^ 1) + 1]
    with pytest.raises(NotOpened):
        open_sealed(sealed.replace(salt[1], salt[1][:-1] + other), PASSPHRASE)


@pytest.mark.parametrize("typed", ["", "a long passphrase of somebodY", "a long passphrase of somebody "])
def test_another_passphrase_does_not_open(typed: str) -> None:
    with pytest.raises(NotOpened):
        open_sealed(seal(CONTENT, PASSPHRASE, QUICK), Secret(typed))


def test_a_file_to_a_key_is_none_for_a_passphrase() -> None:
    other = pyrage.encrypt(CONTENT.reveal(), [pyrage.x25519.Identity.generate().to_public()])
    assert work_factor(other) is None
    with pytest.raises(NotOpened):
        open_sealed(other, PASSPHRASE)
