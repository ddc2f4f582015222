import json
import os
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from identitymesh.errors import SecretBroken, SecretRefused
from identitymesh.redaction import Secret
from identitymesh.secrets.sealing import Context, SealingKey, length_prefixed, read_header, seal, unseal
from tests.house_rules.repository import ROOT
from tests.secrets.decoder import decode

VECTORS: dict[str, Any] = json.loads((ROOT / "tests/vectors/sealed-value-v1.json").read_text())
KEY = SealingKey(3, bytes(range(16, 32)), Secret(bytes(range(32))))
CONTEXT = Context("connectors", "database", "secret://hr/reader", 7)


def sealed_value(value: bytes = b"correct horse", context: Context = CONTEXT) -> bytes:
    return seal(Secret(value), KEY, context)


@pytest.mark.parametrize("answer", VECTORS["answers"], ids=lambda answer: answer["name"])
def test_known_answers(answer: dict[str, Any]) -> None:
    key = SealingKey(VECTORS["key_id"], bytes.fromhex(VECTORS["keyset_id"]), Secret(bytes.fromhex(VECTORS["data_key"])))
    context = Context(*(answer[name] for name in ("keyring", "store", "ref", "version", "expires")))
    salt = bytes.fromhex(VECTORS["salt"])
    value, sealed = bytes.fromhex(answer["value"]), bytes.fromhex(answer["sealed"])
    assert seal(Secret(value), key, context, random=lambda _size: salt) == sealed
    assert unseal(sealed, key, context).reveal() == value
    assert decode(sealed, key.secret.reveal(), answer) == value


def test_the_page_shows_the_first_known_answer() -> None:
    page = (ROOT / "docs/formats/sealed-value.md").read_text()
    assert "".join(page.split("```")[1].split()) == VECTORS["answers"][0]["sealed"]


@settings(deadline=None, max_examples=25)
@given(st.binary(min_size=1, max_size=300), st.integers(1, 2**63), st.integers(0, 2**40))
def test_an_independent_decoder_opens_what_the_product_wrote(value: bytes, version: int, expires: int) -> None:
    context = Context("application", "database", "secret://smtp", version, expires)
    place: dict[str, object] = {name: getattr(context, name) for name in Context._fields}
    assert decode(seal(Secret(value), KEY, context), KEY.secret.reveal(), place) == value


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=16 * 1024))
def test_what_is_sealed_opens(value: bytes) -> None:
    sealed = sealed_value(value)
    assert unseal(sealed, KEY, CONTEXT).reveal() == value
    assert len(sealed) == 92 + 16 + (len(value) // 64 + 1) * 64


def test_every_flipped_bit_is_noticed() -> None:
    sealed = sealed_value()
    for bit in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SecretBroken):
            unseal(bytes(changed), KEY, CONTEXT)


def test_every_truncation_and_appended_bytes_are_noticed() -> None:
    sealed = sealed_value(b"x" * 200)
    for size in range(len(sealed)):
        with pytest.raises(SecretBroken):
            unseal(sealed[:size], KEY, CONTEXT)
    for extra in (1, 16, 64, 128):
        with pytest.raises(SecretBroken):
            unseal(sealed + bytes(extra), KEY, CONTEXT)


@pytest.mark.parametrize(
    "elsewhere",
    [
        CONTEXT._replace(keyring="application"),
        CONTEXT._replace(store="azure-key-vault"),
        CONTEXT._replace(ref="secret://hr/writer"),
        CONTEXT._replace(version=8),
        CONTEXT._replace(expires=1893456000),
        CONTEXT._replace(store="data", ref="basesecret://hr/reader"),
    ],
)
def test_a_value_does_not_open_in_another_place(elsewhere: Context) -> None:
    with pytest.raises(SecretBroken, match="moved here from another place"):
        unseal(sealed_value(), KEY, elsewhere)


@pytest.mark.parametrize(
    "key",
    [
        replace(KEY, key_id=4),
        replace(KEY, keyset_id=bytes(16)),
        replace(KEY, secret=Secret(bytes(32))),
    ],
)
def test_a_value_does_not_open_with_another_key(key: SealingKey) -> None:
    with pytest.raises(SecretBroken):
        unseal(sealed_value(), key, CONTEXT)


def test_a_header_that_names_another_key_does_not_help() -> None:
    sealed = bytearray(sealed_value())
    sealed[8:12] = (4).to_bytes(4, "big")
    with pytest.raises(SecretBroken):
        unseal(bytes(sealed), replace(KEY, key_id=4), CONTEXT)


@pytest.mark.parametrize(("at", "value"), [(4, 2), (5, 2), (6, 1), (7, 1)])
def test_unknown_version_suite_and_flags_are_refused(at: int, value: int) -> None:
    sealed = bytearray(sealed_value())
    sealed[at] = value
    with pytest.raises(SecretBroken, match="does not know"):
        read_header(bytes(sealed), "secret://a")


def test_sizes_that_may_be_sealed() -> None:
    assert unseal(sealed_value(b"x" * 16384), KEY, CONTEXT).reveal() == b"x" * 16384
    for size in (0, 16385):
        with pytest.raises(SecretRefused):
            sealed_value(b"x" * size)


def test_fields_cannot_be_confused() -> None:
    assert length_prefixed(b"a/b", b"c") != length_prefixed(b"a", b"b/c")
    assert length_prefixed(b"", b"a") != length_prefixed(b"a", b"")


def test_no_two_sealings_are_alike_even_after_a_fork() -> None:
    seen = {sealed_value()[28:60] for _ in range(1000)}
    assert len(seen) == 1000
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, sealed_value()[28:60])
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 32) not in seen | {sealed_value()[28:60]}
    os.close(reader)
    os.close(writer)


def test_errors_carry_no_value() -> None:
    with pytest.raises(SecretBroken) as broken:
        unseal(sealed_value(b"hunter2"), KEY, CONTEXT._replace(version=1))
    assert "hunter2" not in repr(broken.value) + broken.value.hint
    assert broken.value.__cause__ is None
