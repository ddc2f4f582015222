"""Names in directories."""

from __future__ import annotations

import re
from typing import Final

from identitymesh.rules.expressions.function import Example, Function, Parameter
from identitymesh.rules.expressions.kinds import TEXT

# RFC 4514, section 2.4. Control characters are escaped too, as the section allows and Active Directory wants.
_SPECIAL: Final = re.compile(r'["+,;<>\\]|^[ #]| \Z')
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def _escape_dn(text: str) -> str:
    escaped = _SPECIAL.sub(r"\\\g<0>", text)
    return _CONTROL.sub(lambda found: f"\\{ord(found.group()):02X}", escaped)


FUNCTIONS: Final = (
    Function(
        name="EscapeDN",
        summary="A text as a value inside a distinguished name, escaped as RFC 4514 says.",
        parameters=(Parameter("text", TEXT, many="each"),),
        result=TEXT,
        call=_escape_dn,
        grows=True,
        notes="Use it for every value that is put into a DN: without it a comma in a name makes another DN of it.",
        examples=(
            Example(
                'Concat("cn=", EscapeDN([name]), ",ou=people,dc=example,dc=org")',
                {"name": "Lovelace, Ada"},
                "cn=Lovelace\\, Ada,ou=people,dc=example,dc=org",
            ),
            Example("EscapeDN([name])", {"name": ' #1 "a+b" <c>;d\\e '}, '\\ #1 \\"a\\+b\\" \\<c\\>\\;d\\\\e\\ '),
            Example("EscapeDN([name])", {"name": "#1"}, "\\#1"),
            Example("EscapeDN([name])", {"name": " "}, "\\ "),
            Example("EscapeDN([name])", {"name": "a\nb"}, "a\\0Ab"),
            Example("EscapeDN([name])", {}, None),
        ),
    ),
)
