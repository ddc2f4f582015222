"""Secret references: the names under which secrets are kept, in both spellings.

``secret://seg/seg`` has 1 to 8 segments of ``[a-z0-9][a-z0-9._-]{0,63}`` and at most
255 bytes. In a definition ``{{secret:seg/seg}}`` means the same, as the whole value of
a field that is declared secret. A name is refused, never normalised: two spellings of
one name would be two keys to one door.

What stands in a secret field may be a credential that somebody pasted, so no message
of :func:`parse_setting` repeats any of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from identitymesh.errors import ReferenceInvalid

SCHEME: Final = "secret://"
MAX_BYTES: Final = 255
MAX_SEGMENTS: Final = 8

_SEGMENT: Final = r"[a-z0-9][a-z0-9._-]{0,63}"
# \Z, not $: a dollar sign would accept a trailing newline.
_PATH: Final = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT}){{0,{MAX_SEGMENTS - 1}}}\Z", re.ASCII)
_BRACES: Final = re.compile(r"\{\{secret:([^{}]*)\}\}\Z", re.ASCII)
_RULE: Final = (
    "A reference is secret:// and 1 to 8 names joined by /, each of a-z, 0-9, dot, underscore and hyphen, "
    "beginning with a letter or digit, 64 characters at most; 255 in all. For example secret://hr/reader."
)
_PLAINTEXT: Final = "plaintext where a secret reference belongs"
_PLAINTEXT_HINT: Final = (
    "Store the value with `identitymesh secrets set secret://hr/reader` and write that reference here. "
    "If a real credential stood here, change it at its system: this file may have copies."
)


def is_segment(text: str) -> bool:
    """Whether this can be one name of a reference."""
    return "/" not in text and _PATH.match(text) is not None


@dataclass(frozen=True, slots=True, order=True)
class SecretReference:
    """The name of a secret; ``text`` is its one canonical spelling, ``secret://seg/seg``."""

    text: str

    def __post_init__(self) -> None:
        if not _is_canonical(self.text):
            raise ReferenceInvalid("not a secret reference", hint=_RULE)

    def __str__(self) -> str:
        return self.text

    @property
    def path(self) -> str:
        """The segments without the scheme: ``seg/seg``."""
        return self.text[len(SCHEME) :]


def _is_canonical(text: str) -> bool:
    if not text.startswith(SCHEME) or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return False
    return _PATH.match(text, len(SCHEME)) is not None


def parse(text: str) -> SecretReference:
    """The ``secret://`` spelling alone, as commands and the API take it.

    Raises:
        ReferenceInvalid: it is not one. The text is quoted only where it begins with
            ``secret://``: without the scheme it may be a value given in the wrong place.
    """
    if _is_canonical(text):
        return SecretReference(text)
    if text.startswith(SCHEME):
        raise ReferenceInvalid(f"{text[:80]!a} is not a secret reference", hint=_RULE)
    raise ReferenceInvalid("not a secret reference: it does not begin with secret://", hint=_RULE)


def parse_setting(text: str) -> SecretReference:
    """What stands in a field that is declared secret: ``secret://a/b`` or ``{{secret:a/b}}``, the whole field.

    Raises:
        ReferenceInvalid: anything else; the message repeats no part of the text.
    """
    if _is_canonical(text):
        return SecretReference(text)
    braces = _BRACES.match(text)
    if braces is not None:
        candidate = SCHEME + braces.group(1)
        if _is_canonical(candidate):
            return SecretReference(candidate)
    if braces is not None or text.startswith(SCHEME):
        raise ReferenceInvalid("not a valid secret reference", hint=_RULE)
    if "{{secret:" in text:
        raise ReferenceInvalid("a {{secret:...}} reference must be the whole field, nothing around it", hint=_RULE)
    raise ReferenceInvalid(_PLAINTEXT, hint=_PLAINTEXT_HINT)
