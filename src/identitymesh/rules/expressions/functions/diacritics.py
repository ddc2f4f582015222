"""Latin letters without their accents, for user names and addresses."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

# After decomposition: a Latin letter and the marks that stand on it. Marks of other scripts carry meaning and stay.
_MARKED: Final = re.compile(
    "([A-Za-z\u00c6\u00d0\u00d8\u00de\u00df\u00e6\u00f0\u00f8\u00fe\u0100-\u024f\u1e00-\u1eff])"
    "[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
)

# Letters that do not decompose, as ICAO 9303 (passports) writes them; but ø is o, as people write it in addresses.
LETTERS: Final = {
    "ß": "ss",
    "ẞ": "SS",
    "æ": "ae",
    "Æ": "AE",
    "œ": "oe",
    "Œ": "OE",
    "ø": "o",
    "Ø": "O",
    "ł": "l",
    "Ł": "L",
    "đ": "d",
    "Đ": "D",
    "ð": "d",
    "Ð": "D",
    "þ": "th",
    "Þ": "TH",
    "ħ": "h",
    "Ħ": "H",
    "ŧ": "t",
    "Ŧ": "T",
    "ŋ": "n",
    "Ŋ": "N",
    "\u0131": "i",  # dotless
    "ĸ": "k",
    "ĳ": "ij",
    "Ĳ": "IJ",
}
_TABLE: Final = str.maketrans(LETTERS)


def without_diacritics(text: str) -> str:
    """The text with plain Latin letters; letters of other scripts stay as they are."""
    if text.isascii():
        return text
    bare = _MARKED.sub(r"\1", unicodedata.normalize("NFD", text)).translate(_TABLE)
    return unicodedata.normalize("NFC", bare)
