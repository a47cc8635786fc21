from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry import dialect
from registry.dialect import find_delimiter, open_table, read_number
from registry.errors import BadData


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def low_limit() -> Iterator[None]:
    """Somebody else in this process allows very short fields only."""
    before = csv.field_size_limit(10)
    yield
    csv.field_size_limit(before)


def bad(file: Path, content: bytes, longest: int = dialect.MAX_CELL) -> BadData:
    file.write_bytes(content)
    with pytest.raises(BadData) as caught:
        list(open_table(file, longest=longest).rows())
    return caught.value


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["no mark", "mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_every_dialect_is_read_alike(
    file: Path, delimiter: str, packed: bool, mark: str, end: str
) -> None:
    blank = "  " if delimiter == "\t" else " \t "
    lines = ["a, b ,c", "", "1,x y,", blank, ' 2,"p\nq",3', ""]
    text = mark + end.join(lines).replace(",", delimiter)
    file.write_bytes(gzip.compress(text.encode(), mtime=0) if packed else text.encode())
    table = open_table(file)
    assert (table.delimiter, table.columns) == (delimiter, ("a", "b", "c"))
    assert list(table.rows()) == [["1", "x y", ""], ["2", "p\nq", "3"]]
    assert table.decimal_comma == (delimiter == ";")


def test_a_file_of_one_column_has_commas() -> None:
    assert find_delimiter(["a\n", "1;2;3\n"]) == ","
    assert find_delimiter([]) == ","


def test_blank_lines_before_the_header_are_passed_over() -> None:
    assert find_delimiter(["\n", "  \t\t \n", "a;b\n"]) == ";"


def test_a_header_of_several_lines_is_read_as_a_whole() -> None:
    assert find_delimiter(['"a, with\n', 'b";c;d\n', "1;2;3\n"]) == ";"


def test_a_quote_that_only_another_delimiter_would_open_costs_little() -> None:
    def lines() -> Iterator[str]:
        yield 'a;b,"c\n'
        for _ in range(10**5):
            yield "x" * 99 + "\n"
        pytest.fail("all of it was read")

    assert find_delimiter(lines()) == ";"


@pytest.mark.usefixtures("low_limit")
def test_limits_do_not_depend_on_who_else_reads_csv(file: Path) -> None:
    file.write_text("a,b\n1," + "x" * 50_000 + "\n")
    assert [len(one) for row in open_table(file).rows() for one in row] == [1, 50_000]
    error = bad(file, b"a,b\n1,2\n\n3," + b"x" * 2000 + b"\n", longest=1000)
    assert (error.row, error.column) == (2, "b")
    assert "2,000 characters; 1,000 are allowed" in error.detail


@pytest.mark.parametrize(
    ("content", "row", "words"),
    [
        (b"", None, "empty"),
        (b"\n \n", None, "empty"),
        (b"a,b\n\n1,2\n\n3\n", 2, "there are 1 fields, but the header has 2"),
        (b'a,b\n1,2\n"3"x,4\n', 2, "cannot be read"),
        (b'a,b\n1,2\n"3,4\n', 2, "a quote is not closed"),
        (b"a,b\n1,2\n3,\xff\n", 2, "not UTF-8 (byte 0xff)"),
        (b"a,b\n1,2\n3,\0\n", 2, "zero byte"),
        (b"a,b\n1,2\n3," + b"x" * 17 * 1024**2, 2, "longer than 16,777,216 bytes"),
        (b'a,b\n1,2\n3,"' + b"x\n" * 9 * 1024**2, 2, "longer than 16,777,216 bytes"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0)[:-4], 2, "gzip file is damaged"),
    ],
    ids=range(10),
)
def test_what_is_wrong_is_named_with_its_row(
    file: Path, content: bytes, row: int | None, words: str
) -> None:
    error = bad(file, content)
    assert error.row == row
    assert words in error.detail


@pytest.mark.parametrize(
    ("text", "comma", "number"),
    [
        ("1.5", False, 1.5),
        ("1,5", True, 1.5),
        ("1,5", False, None),
        ("1,000.5", True, None),
        ("1,000,5", True, None),
        ("1_000", True, None),
        ("", True, None),
    ],
)
def test_numbers_have_a_decimal_comma_only_where_it_is_one(
    text: str, comma: bool, number: float | None
) -> None:
    assert read_number(text, decimal_comma=comma) == number
