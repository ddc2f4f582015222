"""Reads what `identitymesh columns encrypt` wrote, in twenty lines, from docs/formats/columns.md and the key file."""

import json

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.secrets.decoder import gcm_open, hkdf


def compatible(key: bytes, encrypted: bytes, nonce: bytes) -> str:
    return AESGCM(key).decrypt(nonce, encrypted, None).decode()


def sealed(key: bytes, value: bytes, table: str, column: str, row: list[str]) -> bytes:
    data_key = hkdf(key, bytes(32), b"identitymesh/columns/1/sealed-value", 32)
    ref = column + " " + json.dumps(row, separators=(",", ":"))
    label, header, salt = b"identitymesh/sealed-value/1", value[:60], value[28:60]
    fields = (label, header, b"columns", table.encode(), ref.encode(), (1).to_bytes(8, "big"), bytes(8))
    context = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    digest = __import__("hashlib").sha256(context).digest()
    record, nonce, commitment = (
        hkdf(data_key, salt, label + b"/" + purpose + b"\0" + digest, size)
        for purpose, size in ((b"key", 32), (b"nonce", 12), (b"commit", 32))
    )
    assert commitment == value[60:92]
    return gcm_open(record, nonce, value[92:], context).rstrip(b"\0")[:-1]
