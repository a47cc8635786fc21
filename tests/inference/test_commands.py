from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from django.core.management import CommandError, call_command
from pyarrow import parquet

from inference import worker
from registry import store
from registry.models import ModelVersion, Second
from tests.inference import tiny


def run(*args: str) -> str:
    out = io.StringIO()
    call_command(*args, stdout=out)
    return out.getvalue()


def test_items_are_predicted_in_this_process_when_no_worker_is_up(
    version: ModelVersion,
) -> None:
    out = run("predict", "tiny", "--input", '{"x": 1}', "--input", '{"x": 2}', "--json")
    body = json.loads(out)
    assert body["outputs"] == [{"y": 2}, {"y": 4}]
    assert (body["model"], body["version"]) == ("tiny", 1)


def test_a_worker_that_is_up_is_asked(
    version: ModelVersion, here: worker.Worker, tmp_path: Path
) -> None:
    file = tmp_path / "items.jsonl"
    file.write_text("".join(f'{{"x": {-n}}}\n' for n in range(450)))
    body = json.loads(run("predict", "tiny", "--file", str(file), "--json"))
    assert [one["y"] for one in body["outputs"]] == [-2 * n for n in range(450)]
    assert here.cache.status()["hits"] == 2


def test_a_csv_file_is_read_with_numbers(version: ModelVersion, tmp_path: Path) -> None:
    file = tmp_path / "items.csv"
    file.write_text("x\n1.5\n")
    assert "y=3.0" in run("predict", "tiny", "--file", str(file))


def test_a_packed_csv_file_with_decimal_commas_is_read(
    version: ModelVersion, tmp_path: Path
) -> None:
    file = tmp_path / "items.csv.gz"
    file.write_bytes(gzip.compress(b"id;x\na;1,5\n\n", mtime=0))
    assert "y=3.0" in run("predict", "tiny", "--file", str(file))


def test_a_bad_item_is_shown_and_the_exit_code_is_1(
    version: ModelVersion, capsys: Any
) -> None:
    out = io.StringIO()
    with pytest.raises(CommandError, match="1 of 2 items failed") as caught:
        call_command(
            "predict",
            "tiny",
            "--input",
            '{"x": 1}',
            "--input",
            '{"x": "a"}',
            stdout=out,
        )
    assert caught.value.returncode == 1
    assert "y=2.0" in out.getvalue()
    assert "error: x must be a number" in out.getvalue()


def test_a_parquet_file_is_read_and_leaves_nothing(
    version: ModelVersion, tmp_path: Path
) -> None:
    file = tmp_path / "items.parquet"
    parquet.write_table(pyarrow.table({"x": [-1.0 * n for n in range(450)]}), file)
    body = json.loads(run("predict", "tiny", "--file", str(file), "--json"))
    assert [one["y"] for one in body["outputs"]] == [-2.0 * n for n in range(450)]
    assert list((store.root() / "aside").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "side", "answers"),
    [
        ("l.smi", "CCO ethanol\n# one\n\nC\n", ("--protein", "MKV"), [303, 301]),
        ("p.fasta", ">P1 kinase\nMK\nV\n>P2\nM\n", ("--ligand", "CC"), [302, 102]),
        ("l.csv", "smiles\nCC\nC\n", ("--protein", "M"), [102, 101]),
    ],
)
def test_molecules_and_sequences_are_read_with_what_all_have(
    db: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    content: str,
    side: tuple[str, str],
    answers: list[int],
) -> None:
    def encode(self: Any, item: Any) -> float:
        return 100.0 * len(item["sequence"]) + len(item["smiles"])

    monkeypatch.setattr(tiny.Predictor, "encode", encode)
    text = {"type": "string"}
    inputs = {"type": "object", "properties": {"smiles": text, "sequence": text}}
    tiny.make_version("dta", signature={"inputs": inputs, "outputs": {}})
    file = tmp_path / name
    file.write_text(content)
    body = json.loads(run("predict", "dta", "--file", str(file), *side, "--json"))
    assert [one["y"] for one in body["outputs"]] == [2 * n for n in answers]


def test_a_file_whose_items_the_model_has_no_place_for_is_refused(
    version: ModelVersion, tmp_path: Path
) -> None:
    file = tmp_path / "l.smi"
    file.write_text("C\n")
    with pytest.raises(CommandError, match="have no ligand"):
        run("predict", "tiny", "--file", str(file))


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("tiny", "--input", "{}", "--protein", "M"), 2),
        (("none", "--input", "{}"), 1),
        (("a b", "--input", "{}"), 2),
        (("tiny", "--input", "{x"), 2),
        (("tiny", "--file", "/not/there.jsonl"), 2),
        (("tiny", "--file", "/not/there.txt"), 2),
    ],
)
def test_wrong_use_has_its_exit_code(
    version: ModelVersion, args: tuple[str, ...], code: int
) -> None:
    with pytest.raises(CommandError) as caught:
        run("predict", *args)
    assert caught.value.returncode == code


def test_models_are_listed_with_metrics_and_aliases(version: ModelVersion) -> None:
    version.model.point("champion", version)
    tiny.make_version("other", 2.0, metrics={"test": {"ci": 0.91, "mse": 0.2}})
    lines = run("models").splitlines()
    assert any("tiny:1" in one and "@champion" in one for one in lines)
    assert any("other:1" in one and "ci=0.91" in one for one in lines)
    assert [one["name"] for one in json.loads(run("models", "--json"))]


def test_the_versions_of_one_model_are_listed(version: ModelVersion) -> None:
    tiny.make_version("tiny", 2.0)
    out = run("models", "tiny")
    assert "tiny:1" in out
    assert "tiny:2" in out
    with pytest.raises(CommandError) as caught:
        run("models", "none")
    assert caught.value.returncode == 1


def test_without_models_the_list_is_empty(db: None) -> None:
    assert json.loads(run("models", "--json")) == []


def test_of_several_models_the_first_that_can_be_served_predicts(
    version: ModelVersion,
) -> None:
    broken = {"config": {"recipe": "tiny", "params": {"broken": 1}}}
    tiny.make_version("broken", 3.0, **broken)
    asked = ("gone", "broken", "tiny", "--input", '{"x": 1}')
    body = json.loads(run("predict", *asked, "--json"))
    assert (body["model"], body["outputs"]) == ("tiny", [{"y": 2}])
    codes = [one["code"] for one in body["fell_back"]]
    assert codes == ["unknown_model", "model_unavailable"]
    told = io.StringIO()
    call_command("predict", *asked, stdout=io.StringIO(), stderr=told)
    assert "gone was passed over" in told.getvalue()


def test_a_key_decides_which_side_of_a_split_predicts(version: ModelVersion) -> None:
    other = tiny.make_version("tiny", 3.0)
    Second.put(version.model.point("champion", version), other, 0.5)

    def number(key: str) -> int:
        asked = ("tiny@champion", "--input", '{"x": 1}', "--key", key, "--json")
        return int(json.loads(run("predict", *asked))["version"])

    numbers = [number(str(n)) for n in range(12)]
    assert set(numbers) == {1, 2}
    assert numbers == [number(str(n)) for n in range(12)]


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("none", "gone", "--input", "{}"), 1),
        (("tiny", "a b", "--input", "{}"), 2),
        (("tiny",) * 9 + ("--input", "{}"), 2),
        (("tiny", "--input", '{"x": NaN}'), 2),
        (("tiny", "--input", "[" * 100_000), 2),
    ],
)
def test_wrong_use_of_several_models_or_items_has_its_exit_code(
    version: ModelVersion, args: tuple[str, ...], code: int
) -> None:
    with pytest.raises(CommandError) as caught:
        run("predict", *args)
    assert caught.value.returncode == code


def test_standard_input_is_read_and_must_hold_items(
    version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"x": 1}\n\n{"x": 2}\n'))
    body = json.loads(run("predict", "tiny", "--file", "-", "--json"))
    assert body["outputs"] == [{"y": 2}, {"y": 4}]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    with pytest.raises(CommandError, match="no items") as caught:
        run("predict", "tiny", "--file", "-")
    assert caught.value.returncode == 2
