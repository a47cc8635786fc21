from __future__ import annotations

import csv
import gzip
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import contents, lines, sniff, tables
from registry.archives import Growth
from registry.errors import Problem
from registry.lines import Findings
from tests.registry.uploading import outcome

LIMIT = 10**9


def inspect(content: bytes, name: str = "a.csv") -> Findings:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        growth = Growth(len(content), LIMIT, lambda: None)
        return contents.inspect(Path(file.name), sniff.type_of(name), growth)


def refusal(content: bytes, name: str = "a.csv") -> str:
    with pytest.raises(Problem) as caught:
        inspect(content, name)
    assert caught.value.code in ("bad_data", "bad_archive")
    return caught.value.detail


def test_rows_columns_and_a_preview_are_learned():
    found = inspect(b"a,b\r\n" + b'1,"x, ""y"""\r\n' * 7)

    assert (found.rows, found.columns, found.file_count) == (7, ["a", "b"], 1)
    assert found.preview == [{"a": "1", "b": 'x, "y"'}] * 5


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty"),
        (b"a,b\n", "no rows"),
        (b"a,a\n1,2\n", "names the column 'a' twice"),
        (b"a, a \n1,2\n", "names the column 'a' twice"),
        (b"a,,c\n1,2,3\n", "column 2 of the header has no name"),
        (b"a,b\n1,2\n3\n", "row 2: there are 1 fields, but the header has 2"),
        (b"a,b\n1,2,3\n", "row 1: there are 3 fields, but the header has 2"),
        (b"a,b\n1,2\n\n3,\xff\n", "row 2, column b: the text is not UTF-8 (byte 0xff)"),
        (b"a,b\n1,x\x00y\n", "row 1, column b: the cell holds a zero byte"),
        (b"\xff\xfea\x00,\x00b\x00\n\x001\x00,\x002\x00", "the header is not UTF-8"),
        (b'a,b\n1,"2\n3,4\n', "row 1: the line cannot be read: a quote is not closed"),
        (b'a,b\n1,2\n"3"x,4\n', "row 2: the line cannot be read"),
    ],
)
def test_a_bad_csv_is_refused_with_the_place(content, says):
    assert says in refusal(content)
    assert says in refusal(gzip.compress(content, mtime=0), "a.csv.gz")


def test_a_huge_cell_is_refused_with_row_and_column():
    content = b"a,b\n1,2\n3," + b"x" * 1024**2 + b"\n"
    says = refusal(content)
    assert says.startswith("row 2, column b: the cell has 1,048,576 characters")
    edge = b"a,b\n1," + b"x" * tables.MAX_CELL + b"\n"
    assert inspect(edge).rows == 1


def test_a_line_without_end_is_refused_before_it_fills_memory(monkeypatch):
    monkeypatch.setattr(lines, "MAX_ROW", 1000)

    assert "row 2: it is longer than 1,000 bytes" in refusal(
        b"a,b\n1,2\n" + b"3" * 2000
    )
    quoted = b'a,b\n1,"' + b"x\n" * 1000
    assert "row 1: it is longer than 1,000 bytes" in refusal(quoted)


def test_other_delimiters_and_a_byte_order_mark_are_understood():
    for delimiter in (b";", b"\t", b"|"):
        content = b"\xef\xbb\xbfa,b\n1,2\n".replace(b",", delimiter)
        assert inspect(content).columns == ["a", "b"]


def test_blank_lines_before_the_header_do_not_hide_its_delimiter():
    found = inspect(b"\n  \na;b\n\n1;2\n")
    assert (found.columns, found.rows) == (["a", "b"], 1)


def test_a_cut_or_swollen_gzip_file_is_refused():
    packed = gzip.compress(b"a,b\n" + b"1,2\n" * 1000, mtime=0)
    assert "damaged" in refusal(packed[:-9], "a.csv.gz")
    assert "damaged" in refusal(packed[:-6] + b"123456", "a.csv.gz")
    bomb = gzip.compress(b"a,b\n" + b"1,2\n" * 2_000_000, mtime=0)
    assert "unpacks to more than" in refusal(bomb, "a.csv.gz")


def test_long_cells_are_cut_in_the_preview():
    assert inspect(b"a\n" + b"x" * 1000 + b"\n").preview == [{"a": "x" * 200}]


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=20))
def test_whatever_a_csv_writer_writes_is_read_back(rows):
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=csv.QUOTE_ALL)
    writer.writerows([["a", "b", "c"], *rows])

    found = inspect(file.getvalue().encode())

    assert found.rows == len(rows)
    assert [list(one.values()) for one in found.preview] == rows[:5]


@given(
    st.binary(max_size=300), st.sampled_from(["a.csv", "a.jsonl", "a.csv.gz", "a.sdf"])
)
def test_no_bytes_do_worse_than_a_refusal(content, name):
    found = outcome(lambda: inspect(content, name))
    assert found.detail if isinstance(found, Problem) else found.rows


def test_json_lines_are_objects():
    found = inspect(b'{"a": 1, "b": [1, 2]}\n\n{"a": null, "c": "x"}\n', "a.jsonl")

    assert (found.rows, found.columns) == (2, ["a", "b", "c"])
    assert found.preview == [{"a": 1, "b": "[1, 2]"}, {"a": None, "c": "x"}]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"a": 1}\n[1]\n', "row 2: the line is not a JSON object"),
        (b'{"a": 1}\n{"a":\n', "row 2: the line is not JSON"),
        (b'{"a": NaN}\n', "row 1: the line is not JSON: NaN"),
        (b'{"a": 1e999}\n', "row 1: the line is not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "row 1: the line is not JSON: a whole number"),
        (b'{"a": "\xff"}\n', "row 1: the text is not UTF-8"),
        (b"[" * 100_000 + b"\n", "row 1: the JSON is nested too deep"),
        (b"\n", "the file is empty"),
    ],
)
def test_bad_json_lines_are_refused_with_the_row(content, says):
    assert says in refusal(content, "a.jsonl")


def test_odd_text_in_json_can_be_shown():
    found = inspect(b'{"a\\u0000": "\\ud800"}\n', "a.jsonl")
    assert found.preview == [{"a\ufffd": "?"}]


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("a.smi", b"CCO ethanol\n# no\nCCN\n", 2),
        ("a.sdf", b"x\n\nM  END\n$$$$\ny\nM  END\n$$$$\n", 2),
        ("a.pdb", b"HEADER\nATOM      1  N\nHETATM    2  O\n", 2),
        ("a.fasta", b">one\nMKV\n>two\nMA\n", 2),
    ],
)
def test_formats_of_chemistry_are_counted_by_records(name, content, rows):
    assert inspect(content, name).rows == rows
    assert "UTF-8" in refusal(content + b"\xff\n", name)
    assert refusal(b"\n", name)


def test_a_parquet_file_is_whole():
    whole = b"PAR1" + b"data" + b"foot" + (4).to_bytes(4, "little") + b"PAR1"
    assert inspect(whole, "a.parquet").rows is None
    assert "not whole" in refusal(whole[:-1], "a.parquet")
    assert "not whole" in refusal(whole[:-8] + b"\xff\xff\xff\x00PAR1", "a.parquet")
