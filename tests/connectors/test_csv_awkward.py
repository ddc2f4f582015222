"""Files that are cut off, replaced, ragged, in another encoding, or no files at all."""

from __future__ import annotations

import csv
import hashlib
import itertools
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from identitymesh.connectors.checking import MAX_VALUE
from identitymesh.connectors.contract import BadEntry, Page
from identitymesh.connectors.facade import Facade
from identitymesh.connectors.kinds.csv import rows
from identitymesh.connectors.kinds.csv.files import BLOCK
from identitymesh.connectors.kinds.csv.settings import CsvObject, CsvSettings, endpoints, scope
from identitymesh.errors import ConnectorError, ConnectorMisconfigured, ImportIncomplete, PermissionDenied, Unreachable
from identitymesh.model.attributes import Attributes
from tests.connectors.doubles import Credentials, facade

PEOPLE = "id,name,city\n1,Ann,Bern\n2,Bob,Genf\n3,Cy,Chur\n"


class File:
    """One file and a connector on it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, content: str | bytes) -> None:
        self.path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def facade(self, **user: Any) -> Facade:
        selected = {"path": str(self.path), "key": "id", **user}
        return facade({"type": "csv", "objects": {"user": selected}}, Credentials())

    def read(self, names: tuple[str, ...] = (), **user: Any) -> list[Page]:
        return list(self.facade(**user).read("user", names))


@pytest.fixture
def file(tmp_path: Path) -> File:
    made = File(tmp_path / "people.csv")
    made.write(PEOPLE)
    return made


def people(pages: list[Page]) -> dict[str, Attributes]:
    return {entry.key: entry.attributes for page in pages for entry in page.entries}


def refused(pages: list[Page]) -> list[tuple[str, str | None, str]]:
    return [(bad.position, bad.key, bad.reason) for page in pages for bad in page.bad]


def proof(pages: list[Page]) -> str:
    assert pages[-1].incomplete == ""
    assert pages[-1].complete is not None
    return pages[-1].complete.proof


# -- what proves that a file is whole ----------------------------------------------


def test_a_file_with_enough_rows_is_whole(file: File) -> None:
    pages = file.read(expect={"min_rows": 3})
    assert proof(pages) == "3 rows, at least 3 expected"
    assert pages[-1].complete is not None
    assert pages[-1].complete.doubt == ""
    assert people(pages)["2"] == {"id": "2", "name": "Bob", "city": "Genf"}


def test_too_few_rows_are_not_believed(file: File) -> None:
    pages = file.read(expect={"min_rows": 4})
    assert "has 3 rows; expected are at least 4" in pages[-1].incomplete
    assert sorted(people(pages)) == ["1", "2", "3"], "what is there is taken over all the same"


def test_without_expectation_absence_is_doubted(file: File) -> None:
    pages = file.read()
    assert proof(pages) == "3 rows to the end of the file"
    assert pages[-1].complete is not None
    assert "expect" in pages[-1].complete.doubt
    assert "expect" in file.facade().test().details["user"]


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ("END,3\n", ""),
        ("END\n", ""),
        ("END,three\n", ""),
        ("END,4\n", "counts 4 rows, but there are 3"),
        ("", "has no closing row END"),
        ("END,3\n4,Dan,Wil\n", "rows after its closing row"),
        ('END,3\n4,"Dan', "ends inside a quote"),
        ("END,3\n\n\n", ""),
    ],
)
def test_a_closing_row_proves_the_end(file: File, end: str, why: str) -> None:
    file.write(PEOPLE + end)
    last = file.read(expect={"trailer": "END"})[-1]
    if why:
        assert why in last.incomplete
        assert last.complete is None
    else:
        assert last.complete is not None
        assert last.complete.count == 3


def test_the_closing_row_is_nobody(file: File) -> None:
    file.write(PEOPLE + "END,3\n")
    pages = file.read(expect={"trailer": "END"})
    assert sorted(people(pages)) == ["1", "2", "3"]
    assert refused(pages) == []


def test_a_checksum_proves_all_bytes(file: File) -> None:
    beside = file.path.with_suffix(".csv.sha256")
    for content in (PEOPLE.encode(), b"\xef\xbb\xbf" + PEOPLE.encode(), PEOPLE.rstrip().encode()):
        file.write(content)
        beside.write_text(f"{hashlib.sha256(content).hexdigest()}  people.csv\n")
        expect = {"sha256_file": str(beside)}
        assert proof(file.read(expect=expect)) == "3 rows, its SHA-256"
        file.write(content + b"4,Dan,Wil\n")
        assert "does not have the SHA-256" in file.read(expect=expect)[-1].incomplete


@pytest.mark.parametrize("content", ["", "abc", "g" * 64])
def test_a_checksum_that_is_none_is_named(file: File, content: str) -> None:
    beside = file.path.with_suffix(".sha256")
    beside.write_text(content)
    with pytest.raises(ConnectorMisconfigured, match="does not begin with a SHA-256"):
        file.read(expect={"sha256_file": str(beside)})
    beside.unlink()
    with pytest.raises(Unreachable, match=r"there is no file .*people\.sha256"):
        file.read(expect={"sha256_file": str(beside)})


@given(at=st.integers(0, len(PEOPLE) - 1))
def test_a_file_cut_off_anywhere_is_never_whole(tmp_path_factory: pytest.TempPathFactory, at: int) -> None:
    """Not with a proof; and without one, only a cut between two rows is not seen."""
    file = File(tmp_path_factory.mktemp("cut") / "people.csv")
    file.write(PEOPLE[:at])
    for expect in ({"min_rows": 3}, {"trailer": "END"}):
        try:
            assert file.read(expect=expect)[-1].incomplete
        except (ImportIncomplete, ConnectorMisconfigured):
            assert "\n" not in PEOPLE[:at], "the names of the columns themselves were cut"
    if PEOPLE[:at].count("\n") > 0 and not PEOPLE[:at].endswith("\n"):
        assert "cut off" in file.read()[-1].incomplete


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("id,name\n1,Ann\n2,Bo", "no line break at its end"),
        ('id,name\n1,Ann\n2,"Bo', "ends inside a quote"),
        ('id,name\n1,Ann\n2,"Bo\n3,Cy\n', "ends inside a quote"),
        ("id,name\n1,Ann\n2", "is cut off"),
    ],
)
def test_a_truncated_file_is_incomplete(file: File, content: str, why: str) -> None:
    file.write(content)
    pages = file.read(expect={"min_rows": 1})
    assert why in pages[-1].incomplete
    assert "1" in people(pages)


def test_a_last_row_without_line_break_may_be_usual(file: File) -> None:
    file.write(PEOPLE.rstrip())
    assert proof(file.read(final_newline=False, expect={"min_rows": 3}))
    file.write(PEOPLE.rstrip() + "\n4")
    assert "cut off" in file.read(final_newline=False, expect={"min_rows": 3})[-1].incomplete


@pytest.mark.parametrize("content", ["", "\n1,Ann\n", b"\xef\xbb\xbf", 'id,"name'])
def test_a_file_without_names_of_columns_is_incomplete(file: File, content: str | bytes) -> None:
    file.write(content)
    with pytest.raises(ImportIncomplete, match=r"people\.csv"):
        file.read()


def test_a_file_with_names_alone_is_empty(file: File) -> None:
    file.write("id,name\n")
    pages = file.read()
    assert pages[-1].complete is not None
    assert pages[-1].complete.count == 0


# -- the file changes under the reader ----------------------------------------------


def _append(path: Path) -> None:
    with path.open("a") as more:
        more.write("x,New,Wil\n")


def _rewrite(path: Path) -> None:
    path.write_text(PEOPLE)


def _rename_over(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes())
    other.rename(path)


@pytest.mark.parametrize(
    ("meddle", "how"),
    [(_append, "changed"), (_rewrite, "changed"), (_rename_over, "replaced"), (Path.unlink, "removed")],
)
def test_a_file_that_changes_while_it_is_read_is_incomplete(
    file: File, meddle: Callable[[Path], Any], how: str
) -> None:
    file.write("id,name,city\n" + "".join(f"{number},Ann,Bern\n" for number in range(50_000)))
    pages = file.facade(expect={"min_rows": 1}).read("user", ())
    first = next(pages)
    assert first.entries
    meddle(file.path)
    last = list(pages)[-1]
    assert f"{how} while it was read" in last.incomplete
    assert last.complete is None


# -- single rows ---------------------------------------------------------------------


def test_bad_rows_are_named_and_the_others_come(file: File) -> None:
    file.write(
        "id,name,city\n"
        "1,Ann,Bern\n"
        ",Bob,Genf\n"
        "  ,Bob,Genf\n"
        "1,Ann again,Bern\n"
        "5,Eve\n"
        "6,Fay,Biel,more\n"
        '7,"Gus"x,Thun\n'
        "\n"
        '9,"two\nlines",Wil\n'
        "10,Ian,Zug\n"
    )
    pages = file.read(expect={"min_rows": 1})
    assert people(pages) == {
        "1": {"id": "1", "name": "Ann", "city": "Bern"},
        "9": {"id": "9", "name": "two\nlines", "city": "Wil"},
        "10": {"id": "10", "name": "Ian", "city": "Zug"},
    }
    found = sorted(refused(pages), key=lambda one: int(one[0].split()[1]))
    assert [(position, key) for position, key, _ in found] == [
        ("row 3", None), ("row 4", None), ("row 5", "1"), ("row 6", "5"), ("row 7", "6"), ("row 8", None),
    ]  # fmt: skip
    words = [reason for _, _, reason in found]
    assert words[:2] == ["the key is empty"] * 2
    assert words[2].startswith("duplicate key")
    assert words[3:5] == ["it has 2 cells; there are 3 columns", "it has 4 cells; there are 3 columns"]
    assert words[5].startswith("the row cannot be read")
    assert proof(pages)
    assert pages[-1].complete is not None
    assert pages[-1].complete.count == 9


def test_duplicates_are_named_pages_later(file: File) -> None:
    lines = [f"{number},Ann,Bern" for number in range(2500)]
    file.write("\n".join(["id,name,city", *lines, "7,Ann,Bern", ""]))
    ((position, key, reason),) = refused(file.read(expect={"min_rows": 1}))
    assert (position, key) == ("row 2,502", "7")
    assert reason.startswith("duplicate key")


def test_the_key_of_a_ragged_row_is_believed_in_the_first_column_alone(file: File) -> None:
    file.write("name,id,city\nAnn,1,Bern\nBob,Lee,2,Genf\n")
    assert refused(file.read()) == [("row 3", None, "it has 4 cells; there are 3 columns")]
    file.write('id,name\n1,Ann\n2,"Bob\n3",Cy,x\n4,Dan\n')
    assert refused(file.read()) == [("row 3", None, "it has 4 cells; there are 2 columns")]


def test_a_stray_quote_spoils_what_it_swallows_and_no_more(file: File) -> None:
    file.write('id,name\n1,"Ann\n2,Bob\n3,"Cy"\n4,Dan\n')
    pages = file.read(expect={"min_rows": 1})
    assert list(people(pages)) == ["4"]
    ((position, key, _),) = refused(pages)
    assert (position, key) == ("row 2", None), "nobody can be missing while a row has no key"


def test_bytes_that_are_not_in_the_encoding_spoil_their_row_alone(file: File) -> None:
    file.write(b"id,name,city\n1,Ann,Bern\n2,J\xfcrg,Genf\n3,\xc3\xa9va,Chur\n\xff4,Dan,Wil\n")
    pages = file.read(expect={"min_rows": 1})
    assert {key: row["name"] for key, row in people(pages).items()} == {"1": "Ann", "3": "éva"}
    assert refused(pages) == [
        ("row 3", "2", "column name has bytes that are not utf-8"),
        ("row 5", None, "column id has bytes that are not utf-8"),
    ]
    assert refused(file.read(("id", "city"), expect={"min_rows": 1}))[0][0] == "row 5", "nobody asked for that column"


def test_the_encoding_is_a_setting(file: File) -> None:
    file.write("id,name,city\n1,Jürg €,Bern\n".encode("cp1252"))
    assert people(file.read(encoding="cp1252"))["1"]["name"] == "Jürg €"
    file.write("id,name,city\n1,Jürg,Bern\n".encode("utf-16-be"))
    assert people(file.read(encoding="utf-16-be"))["1"]["name"] == "Jürg"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_byte_order_marks_are_skipped_and_heeded(file: File, encoding: str) -> None:
    file.write(("\ufeff" + '"id",name\n1,Jürg\n').encode(encoding))
    for said in (encoding, encoding.removesuffix("-le").removesuffix("-be")):
        assert people(file.read(encoding=said)) == {"1": {"id": "1", "name": "Jürg"}}
    other = "cp1252" if encoding == "utf-8" else "utf-8"
    with pytest.raises(ConnectorMisconfigured, match=f"byte order mark of {encoding}"):
        file.read(encoding=other)


def test_a_file_of_broken_utf16_is_incomplete(file: File) -> None:
    half_a_pair = b"\x00\xdc\x0a\x00"
    file.write(("id,name\n" + "1,Ann\n" * BLOCK).encode("utf-16-le") + half_a_pair)
    with pytest.raises(ImportIncomplete, match="is not utf-16-le after row"):
        file.read(encoding="utf-16-le")
    file.write("id,name\n1,Ann\n".encode("utf-16-le") + half_a_pair)
    with pytest.raises(ImportIncomplete, match="names of the columns"):
        file.read(encoding="utf-16-le")


def test_large_cells_are_refused_with_their_name_and_endless_ones_end_the_read(file: File) -> None:
    file.write(f"id,name\n1,{'x' * (MAX_VALUE - 10)}\n2,{'x' * (MAX_VALUE + 1)}\n3,Cy\n")
    pages = file.read(expect={"min_rows": 1})
    assert sorted(people(pages)) == ["1", "3"]
    ((position, key, reason),) = refused(pages)
    assert (position, key) == ("row 3", "2")
    assert "name" in reason
    file.write('id,name\n1,Ann\n2,"' + "3,Cy\n" * MAX_VALUE)
    with pytest.raises(ImportIncomplete, match=r"row 3 .* perhaps a quote is never closed"):
        file.read()


def test_what_has_no_lines_is_no_file_of_rows(file: File) -> None:
    with file.path.open("wb") as large:
        large.truncate(64 << 20)
    with pytest.raises(ConnectorMisconfigured, match="no line break"):
        file.read()


def test_nul_is_named(file: File) -> None:
    file.write("id,name,city\n1,A\0n,Bern\n2,Bob,Genf\n")
    pages = file.read()
    assert list(people(pages)) == ["2"]
    assert refused(pages) == [("row 2", "1", "attribute name has a NUL character")]


def test_every_kind_of_line_break_ends_a_row(file: File) -> None:
    for newline in ("\n", "\r\n", "\r"):
        file.write(PEOPLE.replace("\n", newline))
        assert sorted(people(file.read(expect={"min_rows": 3}))) == ["1", "2", "3"]
        assert proof(file.read(expect={"min_rows": 3}))


# -- columns --------------------------------------------------------------------------


def test_columns_that_rules_use_must_be_there(file: File) -> None:
    with pytest.raises(ConnectorMisconfigured, match="has no column surname which a rule uses") as missing:
        file.read(("id", "surname"))
    assert "id, name, city" in missing.value.hint


def test_the_key_must_be_there_once(file: File) -> None:
    with pytest.raises(ConnectorMisconfigured, match="no column number to be the key"):
        file.read(key="number")
    file.write("id,name,id\n1,Ann,2\n")
    with pytest.raises(ConnectorMisconfigured, match="two columns id"):
        file.read()
    file.write("id;name\n1;Ann\n")
    with pytest.raises(ConnectorMisconfigured) as missing:
        file.read()
    assert "delimiter" in missing.value.hint


def test_names_are_trimmed_and_unnamed_columns_are_nothing(file: File) -> None:
    file.write(" id ,name,,\n1,Ann,x,y\n")
    assert people(file.read()) == {"1": {"id": "1", "name": "Ann"}}


def test_a_file_without_names_is_given_some(file: File) -> None:
    file.write("1,Ann\n2,Bob\n")
    pages = file.read(columns=["id", "name"], expect={"min_rows": 2})
    assert people(pages) == {"1": {"id": "1", "name": "Ann"}, "2": {"id": "2", "name": "Bob"}}
    file.write("1,Ann\n,Bob\n")
    assert refused(file.read(columns=["id", "name"]))[0][0] == "row 2"


def test_long_headers_are_not_repeated_in_full(file: File) -> None:
    file.write("x" * 500 + ",y\n1,2\n")
    with pytest.raises(ConnectorMisconfigured) as missing:
        file.read()
    assert len(missing.value.hint) < 200


# -- dialects ---------------------------------------------------------------------------


def test_an_empty_cell_is_absent_unless_said_otherwise(file: File) -> None:
    file.write('id,name,city\n1,,""\n2,NULL,\n')
    assert people(file.read()) == {"1": {"id": "1"}, "2": {"id": "2", "name": "NULL"}}
    assert people(file.read(absent="NULL")) == {"1": {"id": "1", "name": "", "city": ""}, "2": {"id": "2", "city": ""}}


def test_quotes_escapes_and_none(file: File) -> None:
    file.write("id|name\n1|'O''Brien'\n2|\"x\"\n")
    assert people(file.read(delimiter="|", quote="'"))["1"]["name"] == "O'Brien"
    assert people(file.read(delimiter="|", quote=""))["2"]["name"] == '"x"'
    file.write('id,name\n1,a\\,b\n2,"say \\"x\\""\n')
    assert people(file.read(escape="\\")) == {"1": {"id": "1", "name": "a,b"}, "2": {"id": "2", "name": 'say "x"'}}


def test_cells_of_several_values(file: File) -> None:
    file.write("id,phones\n1,a;b;;c\n2,a\n3,;\n4,\n")
    assert people(file.read(several={"phones": ";"})) == {
        "1": {"id": "1", "phones": ["a", "b", "c"]},
        "2": {"id": "2", "phones": "a"},
        "3": {"id": "3"},
        "4": {"id": "4"},
    }
    with pytest.raises(ConnectorMisconfigured, match="no column mails"):
        file.read(several={"mails": ";"})


# -- no file ----------------------------------------------------------------------------


def test_what_is_no_file_is_named(file: File) -> None:
    file.path.unlink()
    with pytest.raises(Unreachable, match="there is no file"):
        file.read()
    file.path.mkdir()
    with pytest.raises(ConnectorMisconfigured, match="is not a file"):
        file.read()
    file.path.rmdir()
    os.mkfifo(file.path)
    with pytest.raises(ConnectorMisconfigured, match="is not a file"):
        file.read()


def test_a_file_that_may_not_be_read_is_named(file: File) -> None:
    file.path.chmod(0)
    as_root = os.geteuid() == 0
    if as_root:
        os.seteuid(65534)  # root may read everything
    try:
        with pytest.raises(PermissionDenied, match="may not be read"):
            file.read()
    finally:
        if as_root:
            os.seteuid(0)


def test_a_page_is_all_that_is_held(file: File) -> None:
    """Twenty megabytes, of which a few rows and one block are in memory at a time."""
    file.write("id,name\n" + "".join(f"{number},{'x' * 1000}\n" for number in range(20_000)))
    pages = file.facade(expect={"min_rows": 1}).read("user", ())
    tracemalloc.start()
    try:
        counts = [len(page.entries) for page in itertools.islice(pages, 5)]
        _, highest = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert counts == [rows.PAGE] * 5
    assert highest < 8_000_000
    assert proof(list(pages))


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@given(
    cells=st.lists(st.tuples(CELL, CELL), max_size=6),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32-be"]),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_what_a_writer_wrote_is_read(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]], delimiter: str, encoding: str, newline: str
) -> None:
    file = File(tmp_path_factory.mktemp("written") / "people.csv")
    with file.path.open("w", encoding=encoding, newline="") as opened:
        # With QUOTE_MINIMAL Python's writer leaves a carriage return unquoted where lines end in "\n" alone.
        quoting: Any = csv.QUOTE_MINIMAL if newline == "\r\n" else csv.QUOTE_ALL
        writer = csv.writer(opened, delimiter=delimiter, lineterminator=newline, quoting=quoting)
        writer.writerow(["id", "a", "b"])
        writer.writerows((number, *row) for number, row in enumerate(cells))
    pages = file.read(delimiter=delimiter, encoding=encoding, absent="-none-")
    assert people(pages) == {str(at): {"id": str(at), "a": one, "b": two} for at, (one, two) in enumerate(cells)}
    assert refused(pages) == []
    assert proof(pages)


@given(content=st.binary(max_size=200), encoding=st.sampled_from(["utf-8", "utf-16", "cp1252", "shift_jis", "utf-7"]))
def test_any_bytes_end_in_rows_or_in_words(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, encoding: str
) -> None:
    file = File(tmp_path_factory.mktemp("bytes") / "people.csv")
    file.write(content)
    for columns in (["id", "a"], None):
        words = ""
        try:
            pages = file.read(encoding=encoding, columns=columns)
        except ConnectorError as error:
            words = error.hint
        else:
            assert (pages[-1].complete is None) != (pages[-1].incomplete == "")
        assert "fault of the connector" not in words


# -- settings ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "why"),
    [
        ({"expect": {}}, "give at least one"),
        ({"expect": {"min_rows": 0}}, "greater than or equal to 1"),
        ({"encoding": "utf-9"}, "no such encoding"),
        ({"encoding": "base64"}, "no such encoding"),
        ({"delimiter": ";;"}, "at most 1 character"),
        ({"delimiter": "\n"}, "line break"),
        ({"delimiter": '"'}, "different characters"),
        ({"path": "a\0b"}, "NUL"),
        ({"columns": []}, "at least 1 item"),
        ({"separator": ";"}, "Extra inputs"),
    ],
)
def test_settings_that_mean_nothing_are_refused(user: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        CsvObject.model_validate({"path": "people.csv", "key": "id", **user})


def test_paths_start_in_the_folder_of_the_installation(tmp_path: Path) -> None:
    user = {"path": "in/people.csv", "key": "id", "expect": {"sha256_file": "in/people.sha256"}}
    settings = CsvSettings.model_validate({"type": "csv", "objects": {"user": user}})
    found = settings.below(tmp_path).objects["user"]
    assert found.path == str(tmp_path / "in/people.csv")
    assert found.expect is not None
    assert found.expect.sha256_file == str(tmp_path / "in/people.sha256")
    absolute = settings.model_validate({"type": "csv", "objects": {"user": {**user, "path": "/srv/people.csv"}}})
    assert absolute.below(tmp_path).objects["user"].path == "/srv/people.csv"


def test_scope_and_endpoints(tmp_path: Path) -> None:
    def settings(**user: Any) -> CsvSettings:
        given = {"path": "people.csv", "key": "id", **user}
        return CsvSettings.model_validate({"type": "csv", "objects": {"user": given}})

    assert endpoints(settings()) == ()
    assert scope(settings(), "user") == scope(settings(expect={"min_rows": 5}), "user")
    assert len({scope(settings(**one), "user") for one in ({}, {"path": "x.csv"}, {"key": "no"})}) == 3


def test_a_bad_row_is_a_value(file: File) -> None:
    file.write("id,name\n,Ann\n")
    assert file.read()[0].bad == [BadEntry("the key is empty", None, "row 2")]
