from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.errors import BadData, Problem
from tests.training.affinity_case import train
from training.context import Context, Stopped
from training.data import BUILT_IN
from training.recipes.affinity.chemistry import canonical, read_smiles
from training.recipes.affinity.columns import check, find_columns
from training.recipes.affinity.pairs import Pairs, merge, read_pairs
from training.recipes.affinity.recipe import RECIPE
from training.recipes.affinity.table import read_table

HEADER = "smiles,sequence,affinity\n"
GOOD = "CCO,MKVLAAGE,5.5\n"


def context(tmp_path: Path, **more: Any) -> Context:
    return Context(tmp_path / "c", tmp_path / "o", tmp_path / "s", **more)


def read(tmp_path: Path, content: str | bytes, notes: list[str] | None = None) -> Pairs:
    path = tmp_path / "data.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def report(event: Any) -> None:
        if notes is not None:
            notes.append(event["text"])

    where = context(tmp_path, report=report)
    return read_pairs(read_table(path, where), where)


def ten(rows: str = "") -> str:
    """Enough good rows, and others after them from row 11 on."""
    return HEADER + "".join(f"CCO,MKVLAAGE,{5 + n / 10}\n" for n in range(10)) + rows


@pytest.mark.parametrize(
    ("content", "row", "column", "words"),
    [
        ("", None, None, "empty"),
        ("smiles,affinity\nCCO,1\n", None, "sequence", "missing"),
        ("smiles,smiles,sequence,affinity\n", None, "smiles", "more than once"),
        (HEADER, None, None, "no rows"),
        (HEADER + GOOD, None, None, "too few"),
        (HEADER + GOOD * 20, None, "affinity", "all values are 5.5"),
        (ten("CCO,MKV\n"), 11, None, "2 fields, but the header has 3"),
        (ten("CCO,MKV,1,2\n"), 11, None, "4 fields, but the header has 3"),
        (ten("CCO,MKV,high\n"), 11, "affinity", "'high' is not a number"),
        (ten("CCO,MKV,\n"), 11, "affinity", "an empty cell"),
        (ten("CCO,MKV,nan\n"), 11, "affinity", "not a finite"),
        (ten("CCO,MKV,-inf\n"), 11, "affinity", "not a finite"),
        (ten("CCO,MKV,1e300\n"), 11, "affinity", "not a finite"),
        (ten("CCO,MKV,1_000\n"), 11, "affinity", "not a number"),
        (ten("C(C)(C)(C)(C)C,MKV,1\n"), 11, "smiles", "Explicit valence for atom # 0"),
        (ten("CC(C,MKV,1\n"), 11, "smiles", "at position 3"),
        (ten("CCO junk!!,MKV,1\n"), 11, "smiles", "white space at position 4"),
        (ten("CCO |$x$|,MKV,1\n"), 11, "smiles", "white space at position 4"),
        (ten("C\u200b,MKV,1\n"), 11, "smiles", r"character U\+200B at position 2"),
        (ten(",MKV,1\n"), 11, "smiles", "no atoms"),
        (ten("CCO,MKV1L,1\n"), 11, "sequence", "'1' at position 4"),
        (ten("CCO,,1\n"), 11, "sequence", "empty"),
        (ten("CCO,ACGTACGTACGT,1\n"), 11, "sequence", "DNA"),
        (ten(f"{'C' * 5000},MKV,1\n"), 11, "smiles", "5,000 characters"),
        (ten(f"CCO,{'M' * 100_000},1\n"), 11, "sequence", "at most 36,000"),
        (ten().encode() + b"\xff\xfe,MKV,1\n", None, None, "not UTF-8"),
        (ten('"CCO,MKV,1\n'), 11, None, "a quote is not closed"),
        (b"\x1f\x8b\x08\x00garbage", 0, None, "gzip"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    tmp_path: Path,
    content: str | bytes,
    row: int | None,
    column: str | None,
    words: str,
) -> None:
    with pytest.raises(BadData, match=words) as caught:
        read(tmp_path, content)
    assert caught.value.column == column
    if row is not None or words != "not UTF-8":
        assert caught.value.row == row


def test_a_bad_file_leaves_nothing_half_made(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text(ten("CCO,MKV,high\n"))
    with pytest.raises(BadData):
        train(tmp_path / "home", path)
    assert not (tmp_path / "home" / "output").exists()


def test_order_case_and_other_columns_of_the_header_do_not_matter(
    tmp_path: Path,
) -> None:
    lines = "".join(f"x,{5 + n},mkv laa*,C(O)C\n" for n in range(10))
    pairs = read(tmp_path, "\ufeffid, Affinity ,SEQUENCE,Smiles\n" + lines)
    assert (pairs.ligands, pairs.proteins) == (["CCO"], ["MKVLAA"])
    assert pairs.affinity.tolist() == [5 + n for n in range(10)]


def test_gzip_is_told_by_its_content(tmp_path: Path) -> None:
    assert len(read(tmp_path, gzip.compress(ten().encode())).affinity) == 10


def test_blank_lines_and_windows_line_ends_are_read_over(tmp_path: Path) -> None:
    content = "\n \t\n" + ten().replace("\n", "\r\n") + "\r\n  \r\n\r\n"
    assert len(read(tmp_path, content).affinity) == 10


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters_are_recognised(tmp_path: Path, delimiter: str) -> None:
    pairs = read(tmp_path, ten().replace(",", delimiter))
    assert pairs.affinity.tolist() == [5 + n / 10 for n in range(10)]


def test_a_decimal_comma_is_read_between_semicolons_only(tmp_path: Path) -> None:
    content = ten().replace(",", ";").replace(".", ",")
    assert read(tmp_path, content).affinity[3] == 5.3
    with pytest.raises(BadData, match="'5,5' is not a number") as caught:
        read(tmp_path, ten('CCO,MKV,"5,5"\n'))
    assert (caught.value.row, caught.value.column) == (11, "affinity")


def test_two_spellings_of_a_molecule_are_one_ligand(tmp_path: Path) -> None:
    assert read(tmp_path, ten("OCC,MKVLAAGE,7\n")).ligands == ["CCO"]


def test_stereoisomers_are_two_ligands(tmp_path: Path) -> None:
    rows = "C[C@H](N)O,MKVLAAGE,7\nC[C@@H](N)O,MKVLAAGE,5\n"
    assert len(read(tmp_path, ten(rows)).ligands) == 3


def test_repeated_pairs_are_averaged_and_told(tmp_path: Path) -> None:
    notes: list[str] = []
    rows = "CCC,MKVLAAGE,5\nCCC,MKVLAAGE,5.5\nCCN,MKVLAAGE,5\nCCN,MKVLAAGE,7\n"
    pairs = read(tmp_path, ten(rows), notes)
    cells = merge(pairs, np.ones(len(pairs.affinity), bool))
    names = [pairs.ligands[n] for n in cells.ligand]
    assert dict(zip(names, cells.affinity.tolist(), strict=True)) == {
        "CCC": 5.25,
        "CCN": 6.0,
        "CCO": pytest.approx(5.45),
    }
    assert dict(zip(names, cells.weight.tolist(), strict=True))["CCO"] == 10
    assert "3 pairs are measured more than once" in notes[0]
    assert "1 of them differ by more than one log unit" in notes[0]


def test_salts_are_told(tmp_path: Path) -> None:
    notes: list[str] = []
    read(tmp_path, ten("[Na+].CC(=O)[O-],MKVLAAGE,7\n"), notes)
    assert "1 ligands have several parts" in notes[-1]


def test_concentrations_are_told_but_never_turned_into_logarithms(
    tmp_path: Path,
) -> None:
    notes: list[str] = []
    lines = "".join(f"{'C' * (n + 1)},MKVLAAGE,{100 * n}\n" for n in range(12))
    pairs = read(tmp_path, HEADER + lines, notes)
    assert pairs.affinity.max() == 1100
    assert "Units are never guessed" in notes[-1]


def test_reading_stops_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text(ten())
    where = context(tmp_path, should_stop=lambda: True)
    with pytest.raises(Stopped):
        read_pairs(read_table(path, context(tmp_path)), where)


@pytest.mark.parametrize(
    ("smiles", "position"),
    [
        ("CCO\tx", 4),
        ("C\x00C", 2),
        ("\u0421CO", 1),
        ("CCO,", 4),
        ("C1C1", 4),
        ("C11", 3),
        ("C(C", 2),
        ("CC(C)(C)(C)C", 2),
        ("OCc1cccc1", 3),
        ("ClC(Br)F(C)", 8),
    ],
)
def test_a_smiles_that_is_none_is_told_by_its_position(
    smiles: str, position: int
) -> None:
    with pytest.raises(ValueError, match=rf"position {position}\b"):
        read_smiles(f" {smiles}\n")


def test_a_smiles_may_have_white_space_around_it() -> None:
    assert canonical(read_smiles("\u00a0OCC\r\n")) == "CCO"


def test_columns_are_checked_before_anything_is_read() -> None:
    params = RECIPE.validate({"split": "given"})
    check(["SMILES", "sequence", "affinity", "fold"], params)
    with pytest.raises(Problem, match="fold"):
        check(["smiles", "sequence", "affinity"], params)
    with pytest.raises(BadData, match="smiles: this column is missing"):
        check(["a", "b"], RECIPE.validate({}))


def test_a_header_without_names_is_an_empty_file() -> None:
    with pytest.raises(BadData, match="empty"):
        find_columns([])


def test_the_shipped_data_is_what_its_entry_says() -> None:
    dataset = BUILT_IN["bindingdb_sample"]
    with gzip.open(dataset.path, "rt") as file:
        header = file.readline().strip().split(",")
        assert sum(1 for _ in file) == 5_000
    assert tuple(header) == dataset.columns
    licence = dataset.path.with_name("bindingdb_sample.LICENSE")
    assert "Permission is hereby granted" in licence.read_text()
