from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry import recipes
from registry.errors import BadData, Problem
from tests.training.tabular_files import MIXED, mixed_rows, write_csv
from training.recipes.tabular.dataset import Dataset, read_dataset
from training.recipes.tabular.recipe import TabularParams, check


def read(path: Path, **params: Any) -> Dataset:
    made = recipes.get("tabular").validate(params)
    assert isinstance(made, TabularParams)
    return read_dataset(path, made, lambda: None)


def numbered(path: Path, target: list[Any], **columns: list[Any]) -> Path:
    values = [*columns.values(), target]
    return write_csv(path, [*columns, "y"], zip(*values, strict=True))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data.csv"


X = [float(i * i % 17) + 0.5 for i in range(40)]


def bad(path: Path, **params: Any) -> BadData:
    with pytest.raises(BadData) as caught:
        read(path, **params)
    return caught.value


@pytest.mark.parametrize("text", ["", "\n", "  \n"])
def test_an_empty_file_is_bad_data(file: Path, text: str) -> None:
    file.write_text(text)
    assert "empty" in bad(file).detail


def test_a_header_alone_is_bad_data(file: Path) -> None:
    file.write_text("a,b\n")
    assert "no rows" in bad(file).detail


def test_too_few_rows_are_bad_data(file: Path) -> None:
    file.write_text("a,b\n" + "1,2\n" * 9)
    assert "9 rows" in bad(file).detail


def test_a_row_with_a_field_too_many_is_named(file: Path) -> None:
    file.write_text("a,b\n" + "1,2\n" * 11 + "1,2,3\n" + "1,2\n" * 9)
    assert bad(file).row == 12


def test_text_that_is_not_utf_8_is_named_by_its_row(file: Path) -> None:
    file.write_bytes(b"a,b\n" + b"1,2\n" * 4 + b"caf\xe9,2\n" + b"1,2\n" * 9)
    error = bad(file)
    assert error.row == 5
    assert "0xe9" in error.detail


@pytest.mark.parametrize("length", [20_000, 1_000_000])
def test_a_huge_cell_is_named_by_its_row(file: Path, length: int) -> None:
    file.write_text("a,b\n" + "1,2\n" * 4 + f"{'x' * length},2\n" + "1,2\n" * 9)
    error = bad(file)
    assert error.row == 5
    assert "10,000" in error.detail


def test_an_unclosed_quote_is_bad_data(file: Path) -> None:
    file.write_text("a,b\n" + "1,2\n" * 4 + '"1,2\n' + "1,2\n" * 60_000)
    assert bad(file).row == 5


def test_binary_and_damaged_gzip_files_are_bad_data(file: Path) -> None:
    file.write_bytes(b"PK\x03\x04\0\0\0")
    bad(file)
    file.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 50, mtime=0)[:30])
    bad(file)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (["a", "a", "y"], "twice"),
        (["a", "", "y"], "column 2"),
        (["y"], "two columns"),
    ],
)
def test_a_header_that_cannot_be_used_is_bad_data(
    columns: list[str], words: str
) -> None:
    with pytest.raises(BadData, match=words):
        check(columns, TabularParams())


@pytest.mark.parametrize(
    "params",
    [{"target": "z"}, {"fold_column": "z"}, {"categories": ["z"]}],
)
def test_a_parameter_that_names_no_column_is_an_error_of_that_parameter(
    params: dict[str, Any],
) -> None:
    with pytest.raises(Problem) as caught:
        check(["a", "y"], TabularParams(**params))
    assert caught.value.code == "invalid"
    assert list(caught.value.errors) == [f"params.{next(iter(params))}"]


def test_one_text_among_numbers_is_named_by_row_and_column(file: Path) -> None:
    values: list[Any] = [*X]
    values[29] = "many"
    error = bad(numbered(file, X, a=values, b=X))
    assert (error.row, error.column) == (30, "a")
    assert "many" in error.detail


def test_many_texts_among_numbers_make_a_category(file: Path) -> None:
    values = ["3+" if i % 5 == 0 else i % 3 for i in range(40)]
    data = read(numbered(file, X, a=values, b=X))
    assert data.columns[0].categories == ("0", "1", "2", "3+")


def test_a_column_can_be_named_a_category(file: Path) -> None:
    data = read(numbered(file, X, a=[i % 3 for i in range(40)]), categories=["a"])
    assert data.columns[0].kind == "category"


@pytest.mark.parametrize("text", ["inf", "-Infinity", "1e999"])
def test_an_infinite_number_is_named_by_row_and_column(file: Path, text: str) -> None:
    values: list[Any] = [*X]
    values[3] = text
    error = bad(numbered(file, X, a=values))
    assert (error.row, error.column) == (4, "a")


@pytest.mark.parametrize("text", ["", "NA", "NaN", "null", "?"])
def test_a_missing_target_is_named_by_its_row(file: Path, text: str) -> None:
    target: list[Any] = [*X]
    target[6] = text
    error = bad(numbered(file, target, a=X))
    assert (error.row, error.column) == (7, "y")


@pytest.mark.parametrize("value", [1, 2.5, "yes"])
def test_a_target_with_one_value_is_bad_data(file: Path, value: Any) -> None:
    assert "nothing to learn" in bad(numbered(file, [value] * 40, a=X)).detail


def test_a_rare_class_is_named(file: Path) -> None:
    error = bad(numbered(file, ["a"] * 20 + ["b"] * 18 + ["c"] * 2, a=X))
    assert "'c' has 2 rows" in error.detail


def test_a_target_of_names_is_bad_data(file: Path) -> None:
    assert bad(numbered(file, [f"row{i}" for i in range(40)], a=X)).column == "y"


def test_a_regression_of_texts_names_the_first(file: Path) -> None:
    path = numbered(file, ["a", "b"] * 20, a=X)
    assert bad(path, task="regression").row == 1


@pytest.mark.parametrize(
    ("target", "task"),
    [
        (["a", "b"] * 20, "classification"),
        (["yes", "no"] * 20, "classification"),
        ([0, 1, 2, 3] * 10, "classification"),
        ([1.0, 2.0] * 20, "classification"),
        ([0.5, 1.5] * 20, "classification"),
        (list(range(40)), "regression"),
        ([0.5, 1.5, 2.5, 3.5] * 10, "regression"),
    ],
)
def test_the_task_follows_from_the_target(
    file: Path, target: list[Any], task: str
) -> None:
    assert read(numbered(file, target, a=X)).target.task == task


def test_numeric_classes_are_numbers_in_order(file: Path) -> None:
    data = read(numbered(file, [10, 9, 1, "1.0"] * 10, a=X))
    assert data.target.labels == (1, 9, 10)


def test_useless_columns_are_dropped_with_a_note(file: Path) -> None:
    names = [f"row{i}" for i in range(40)]
    data = read(numbered(file, X, a=X, same=[1] * 40, empty=[""] * 40, id=names))
    assert [one.name for one in data.columns] == ["a"]
    assert data.ignored == ("same", "empty", "id", "y")
    assert [note.split()[1] for note in data.notes] == ["empty", "id", "same"]


def test_no_useful_column_is_bad_data(file: Path) -> None:
    assert "no column" in bad(numbered(file, X, a=[1] * 40)).detail


def test_missing_values_and_truth_values_are_read(file: Path) -> None:
    data = read(write_csv(file, MIXED, mixed_rows()))
    size, colour, sold = data.columns
    assert (size.kind, colour.kind, sold.kind) == ("number", "category", "boolean")
    assert size.may_be_missing
    assert not colour.may_be_missing
    assert np.isnan(data.numbers[7, 0])
    assert sold.categories == ("false", "true")


def test_only_frequent_categories_keep_a_code(file: Path) -> None:
    values = [f"c{min(i % 20, 3)}" if i < 38 else f"rare{i}" for i in range(40)]
    data = read(numbered(file, X, a=values), max_categories=2, test_fraction=0.0)
    assert data.columns[0].categories == ("c0", "c3")
    assert data.codes[39, 0] == 0


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_and_gzip_are_recognised(file: Path, delimiter: str) -> None:
    lines = ["", delimiter.join(["a", "y"]), "  "]
    lines += [delimiter.join([str(x), str(-x)]) for x in X]
    file.write_bytes(gzip.compress(("\ufeff" + "\r\n".join(lines)).encode()))
    data = read(file)
    assert [one.name for one in data.columns] == ["a"]
    assert data.y.tolist() == [-x for x in X]


def test_a_decimal_comma_is_read_between_semicolons(file: Path) -> None:
    file.write_text("a;y\n" + "".join(f"{i},5;{i * i},25\n" for i in range(40)))
    assert read(file).y[3] == 9.25


def test_the_named_fold_is_held_out(file: Path) -> None:
    folds = ["test" if i % 4 == 0 else "train" for i in range(40)]
    data = read(numbered(file, X, a=X, fold=folds), fold_column="fold")
    assert data.test.tolist() == [one == "test" for one in folds]
    assert "fold" in data.ignored


def test_a_class_that_is_only_in_the_test_fold_is_bad_data(file: Path) -> None:
    folds = ["test"] * 10 + ["train"] * 30
    path = numbered(file, ["c"] * 9 + ["a", "b"] * 15 + ["a"], a=X, fold=folds)
    assert "'c'" in bad(path, fold_column="fold").detail


@pytest.mark.parametrize("fold", ["train", "test"])
def test_a_split_without_both_parts_is_bad_data(file: Path, fold: str) -> None:
    path = numbered(file, X, a=X, fold=[fold] * 40)
    assert bad(path, fold_column="fold").column == "fold"


def test_a_random_split_holds_out_a_part_of_each_class(file: Path) -> None:
    data = read(numbered(file, ["a"] * 30 + ["b"] * 10, a=X), seed=3)
    assert data.test[:30].sum() == 6
    assert data.test[30:].sum() == 2


def test_huge_numbers_do_not_overflow(file: Path) -> None:
    values = [1e308 if i % 2 else -1e308 for i in range(40)]
    assert np.isfinite(read(numbered(file, X, a=values)).numbers).all()
