"""A second decoder of sealed values, written from docs/formats/sealed-value.md and from nothing else.

It shares no code with the product and no primitive above the block: HKDF is written out with `hmac`, GCM with the
bare AES block and integers.
"""

import hashlib
import hmac
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

R = 0xE1 << 120


def hkdf(key: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    """RFC 5869 with SHA-256."""
    prk = hmac.new(salt, key, hashlib.sha256).digest()
    out, block, counter = b"", b"", 1
    while len(out) < size:
        block = hmac.new(prk, block + info + bytes([counter]), hashlib.sha256).digest()
        out += block
        counter += 1
    return out[:size]


def aes_block(key: bytes, block: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 -- one block, the building stone of GCM
    return encryptor.update(block) + encryptor.finalize()


def multiply(x: int, y: int) -> int:
    """Product in the field of GCM, SP 800-38D section 6.3."""
    z = 0
    for bit in range(127, -1, -1):
        if x >> bit & 1:
            z ^= y
        y = y >> 1 ^ R if y & 1 else y >> 1
    return z


def ghash(h: int, aad: bytes, text: bytes) -> int:
    padded = aad + bytes(-len(aad) % 16) + text + bytes(-len(text) % 16)
    y = 0
    for start in range(0, len(padded), 16):
        y = multiply(y ^ int.from_bytes(padded[start : start + 16], "big"), h)
    return multiply(y ^ int.from_bytes(struct.pack(">QQ", len(aad) * 8, len(text) * 8), "big"), h)


def gcm_open(key: bytes, nonce: bytes, body: bytes, aad: bytes) -> bytes:
    text, tag = body[:-16], body[-16:]
    h = int.from_bytes(aes_block(key, bytes(16)), "big")
    first = aes_block(key, nonce + b"\x00\x00\x00\x01")
    expected = ghash(h, aad, text) ^ int.from_bytes(first, "big")
    if not hmac.compare_digest(expected.to_bytes(16, "big"), tag):
        raise ValueError("tag")
    stream = b"".join(
        aes_block(key, nonce + (2 + number).to_bytes(4, "big")) for number in range((len(text) + 15) // 16)
    )
    return bytes(a ^ b for a, b in zip(text, stream, strict=False))


def field(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def decode(sealed: bytes, data_key: bytes, place: dict[str, object]) -> bytes:
    assert sealed[0:4] == b"IMSV"
    assert sealed[4:8] == b"\x01\x01\x00\x00"
    salt, commitment, body = sealed[28:60], sealed[60:92], sealed[92:]
    context = (
        field(b"identitymesh/sealed-value/1")
        + field(sealed[0:60])
        + field(str(place["keyring"]).encode())
        + field(str(place["store"]).encode())
        + field(str(place["ref"]).encode())
        + field(struct.pack(">Q", place["version"]))
        + field(struct.pack(">q", place["expires"]))
    )
    digest = hashlib.sha256(context).digest()
    info = b"identitymesh/sealed-value/1/%s\x00" + digest
    if hkdf(data_key, salt, info.replace(b"%s", b"commit", 1), 32) != commitment:
        raise ValueError("commitment")
    key = hkdf(data_key, salt, info.replace(b"%s", b"key", 1), 32)
    nonce = hkdf(data_key, salt, info.replace(b"%s", b"nonce", 1), 12)
    padded = gcm_open(key, nonce, body, context)
    assert len(padded) % 64 == 0
    value = padded.rstrip(b"\x00")
    assert value[-1:] == b"\x80"
    assert len(padded) - len(value) < 64
    return value[:-1]
