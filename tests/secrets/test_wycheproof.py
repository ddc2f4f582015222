"""The two primitives that values are sealed with, against vectors of others: a subset of Wycheproof, see the file."""

import json
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from tests.house_rules.repository import ROOT
from tests.secrets.decoder import gcm_open, hkdf

VECTORS = json.loads((ROOT / "tests" / "vectors" / "wycheproof.json").read_text())
HKDFS, GCMS = VECTORS["hkdf_sha256"], VECTORS["aes_256_gcm"]


def named(vector: dict[str, Any]) -> str:
    return f"tcId {vector['tcId']}"


def raw(vector: dict[str, Any], *names: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(vector[name]) for name in names)


@pytest.mark.parametrize("vector", HKDFS, ids=named)
def test_hkdf(vector: dict[str, Any]) -> None:
    ikm, salt, info, okm = raw(vector, "ikm", "salt", "info", "okm")
    extracted = HKDF.extract(SHA256(), salt, ikm)
    assert HKDFExpand(SHA256(), vector["size"], info).derive(extracted) == okm, "as values are sealed"
    assert HKDF(SHA256(), vector["size"], salt, info).derive(ikm) == okm, "as other keys are derived"
    assert hkdf(ikm, salt, info, vector["size"]) == okm, "as the second decoder does"


@pytest.mark.parametrize("vector", GCMS, ids=named)
def test_aes_gcm(vector: dict[str, Any]) -> None:
    key, nonce, aad, plain, body, tag = raw(vector, "key", "iv", "aad", "msg", "ct", "tag")
    if vector["result"] == "valid":
        assert AESGCM(key).decrypt(nonce, body + tag, aad) == plain
        assert AESGCM(key).encrypt(nonce, plain, aad) == body + tag
        assert gcm_open(key, nonce, body + tag, aad) == plain
        return
    with pytest.raises(InvalidTag):
        AESGCM(key).decrypt(nonce, body + tag, aad)
    with pytest.raises(ValueError, match="tag"):
        gcm_open(key, nonce, body + tag, aad)


def test_both_outcomes_are_there() -> None:
    assert {vector["result"] for vector in GCMS} == {"valid", "invalid"}
    assert len(HKDFS) >= 10
