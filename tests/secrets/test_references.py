import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from identitymesh.errors import ReferenceInvalid
from identitymesh.secrets.references import SecretReference, parse, parse_setting

SEGMENT = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)
PATHS = st.lists(SEGMENT, min_size=1, max_size=8).map("/".join)

REFUSED = [
    "",
    "secret://",
    "secret:///a",
    "secret://a/",
    "secret://a//b",
    "secret://..",
    "secret://a/../b",
    "secret://./a",
    "secret://-a",
    "secret://_a",
    "secret://A/b",
    "secret://a b",
    "secret://a%2eb",
    "secret://a?x=1",
    "secret://a#x",
    "secret://a\x00",
    "secret://a\n",
    "\nsecret://a",
    " secret://a",
    "secret://\uff41",  # a wide a
    "secret://\u0131",  # an i without a dot
    "secret://" + "a" * 65,
    "secret://" + "/".join("abcdefghi"),
    "secret://" + "/".join(["a" * 61] * 4),
    "SECRET://a",
    "secret:/a",
    "https://a/b",
]


@settings(deadline=None)
@given(PATHS)
def test_both_spellings_mean_the_same(path: str) -> None:
    canonical = f"secret://{path}"
    assert parse(canonical).text == canonical == str(parse(canonical))
    assert parse_setting(canonical) == parse_setting("{{secret:" + path + "}}") == SecretReference(canonical)
    assert parse(canonical).path == path


@settings(deadline=None)
@given(st.text(max_size=300))
def test_nothing_else_is_taken_and_nothing_is_normalised(text: str) -> None:
    try:
        assert parse(text).text == text
    except ReferenceInvalid:
        return
    assert re.fullmatch(r"secret://[a-z0-9._/-]+", text)


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: str) -> None:
    for read in (parse, parse_setting, SecretReference):
        with pytest.raises(ReferenceInvalid):
            read(text)


def test_255_bytes_are_taken_and_256_are_not() -> None:
    path = "/".join(["a" * 61] * 4)
    longest = "secret://" + path[:246]
    assert len(longest) == 255
    assert parse(longest).text == longest
    with pytest.raises(ReferenceInvalid):
        parse(longest + "a")


@pytest.mark.parametrize(
    "text",
    [
        "hunter2",
        "hunter2{{secret:a}}",
        "{{secret:a}}hunter2",
        "{{secret:a}}{{secret:b}}",
        "{{secret:{{secret:a}}}}",
        "{{secret:a}",
        "{{secret:a}}\n",
        "{{ secret:a }}",
        "{{secret:secret://a}}",
        "{{secret:A}}",
        "{{secret:}}",
        "secret://Hunter2",
    ],
)
def test_a_setting_is_the_whole_field_and_errors_repeat_none_of_it(text: str) -> None:
    with pytest.raises(ReferenceInvalid) as refused:
        parse_setting(text)
    assert "hunter2" not in (str(refused.value) + refused.value.hint).lower()
    assert text not in str(refused.value)


def test_plaintext_is_called_plaintext() -> None:
    with pytest.raises(ReferenceInvalid, match="plaintext where a secret reference belongs"):
        parse_setting("S3cr3tP@ss")


def test_a_command_repeats_only_what_begins_like_a_reference() -> None:
    with pytest.raises(ReferenceInvalid, match="does not begin with secret://") as refused:
        parse("S3cr3tP@ss")
    assert "S3cr3tP@ss" not in str(refused.value)
