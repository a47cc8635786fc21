from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from typing import Any

import pyarrow
import pytest
from django.contrib.auth.models import User
from pyarrow import parquet
from rest_framework.test import APIClient

from inference import shards
from inference.batch import BatchRun
from inference.cache import ModelCache
from registry import store
from registry.models import ModelVersion, Node, Task
from registry.scheduler import dispatch
from registry.states import State
from tests.inference import onnx_files, tiny

BATCH = "/api/v1/inference/batch"
TEXT = {"type": "string"}
PAIRS = {
    "inputs": {"type": "object", "properties": {"smiles": TEXT, "sequence": TEXT}},
    "outputs": {"type": "object", "properties": {"affinity": {"type": "number"}}},
}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "size_for", lambda count: 2)


@pytest.fixture
def ask(
    api: APIClient, inference_node: Node, cache: ModelCache
) -> Callable[..., tuple[Task, bytes]]:
    """The task of a batch once it is over, and the only file of its results."""

    def ask(**body: Any) -> tuple[Task, bytes]:
        response = api.post(BATCH, body, format="json")
        assert response.status_code == 202, response.json()
        dispatch()
        task = Task.objects.select_related("node").get(pk=response.json()["id"])
        assert task.node is not None
        BatchRun(task, task.node, cache).run()
        task.refresh_from_db()
        (file,) = (store.task_path(task.pk) / "files").iterdir()
        got = api.get(f"/api/v1/tasks/{task.pk}/files/{file.name}")
        return task, b"".join(got.streaming_content)  # type: ignore[attr-defined]

    return ask


@pytest.fixture
def pairs(db: None, monkeypatch: pytest.MonkeyPatch) -> ModelVersion:
    """A model whose affinity tells which protein and ligand it was given."""

    def encode(self: Any, item: Any) -> float:
        assert set(item) == {"smiles", "sequence"}
        return 100.0 * len(item["sequence"]) + len(item["smiles"])

    monkeypatch.setattr(tiny.Predictor, "encode", encode)
    monkeypatch.setattr(
        tiny.Predictor, "predict", lambda self, some: [{"affinity": n} for n in some]
    )
    return tiny.make_version("dta", signature=PAIRS)


def table(content: bytes, delimiter: str = ",") -> list[dict[str, str]]:
    text = io.StringIO(content.decode(), newline="")
    return list(csv.DictReader(text, delimiter=delimiter))


def lines(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.splitlines()]


def test_a_csv_is_answered_in_csv_with_its_own_columns_and_row_numbers(
    version: ModelVersion, ask: Callable[..., Any], upload: Callable[..., str]
) -> None:
    dataset = upload("d.csv", b'id,x,note\na,1,"q,""r"\n\nb,,\nc,zwei,\nd,4.5,e\n')
    task, content = ask(model="tiny", dataset=dataset)
    assert task.result["failed_count"] == 2
    first, second, third, fourth = table(content)
    assert first == {
        "row": "1", "id": "a", "x": "1", "note": 'q,"r', "success": "true", "y": "2.0",
        "error": "", "detail": "",
    }  # fmt: skip
    assert (second["row"], second["id"], second["success"]) == ("2", "b", "false")
    assert (third["error"], third["detail"]) == ("bad_item", "x must be a number")
    assert (fourth["row"], fourth["id"], fourth["y"]) == ("4", "d", "9.0")


@pytest.mark.parametrize(
    ("name", "content", "delimiter"),
    [
        ("d.csv", b"\n id ; x \r\n  \r\na;1,5\r\n\r\nb; 2\r\n\t\r\nc;3\r\n", ";"),
        ("d.csv", b"\xef\xbb\xbfid\tx\na\t1.5\n \nb\t2\nc\t3\n", "\t"),
        ("d.csv", b"id|x\na|1.5\nb|2\nc|3\n", "|"),
        ("d.csv.gz", gzip.compress(b"x,id\n1.5,a\n2,b\n\n3,c\n", mtime=0), ","),
        ("d.csv.gz", gzip.compress(b"x;id\n1,5;a\n2;b\n3;c\n", mtime=0), ";"),
    ],
)
def test_a_csv_is_read_as_training_reads_it_and_keeps_its_delimiter(
    version: ModelVersion,
    ask: Callable[..., Any],
    upload: Callable[..., str],
    name: str,
    content: bytes,
    delimiter: str,
) -> None:
    _, found = ask(model="tiny", dataset=upload(name, content))
    rows = table(found, delimiter)
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert [row["y"] for row in rows] == ["3.0", "4.0", "6.0"]


def test_a_cell_may_hold_line_ends_at_the_border_of_two_shards(
    version: ModelVersion, ask: Callable[..., Any], upload: Callable[..., str]
) -> None:
    content = b'id,x\n"a\n1",1\n"b\r\n\r\n",2\n"c""\n,",3\n"\n",4\ne,5\n'
    _, found = ask(model="tiny", dataset=upload("d.csv", content))
    assert [row["y"] for row in table(found)] == ["2.0", "4.0", "6.0", "8.0", "10.0"]
    assert [row["id"] for row in table(found)][2] == 'c"\n,'


def test_an_output_whose_name_is_taken_is_called_predicted(
    version: ModelVersion, ask: Callable[..., Any], upload: Callable[..., str]
) -> None:
    _, found = ask(model="tiny", dataset=upload("d.csv", b"x,y,row\n1,7,8\n"))
    (row,) = table(found)
    assert (row["y"], row["predicted_y"]) == ("7", "2.0")
    assert (row["row"], row["predicted_row"]) == ("8", "1")


def test_json_lines_keep_ids_and_rows_and_stand_as_they_were_given(
    version: ModelVersion, ask: Callable[..., Any], upload: Callable[..., str]
) -> None:
    content = (
        b'\xef\xbb\xbf{"x": 1.50, "id": "a"}\n\n{"x":"2"}\r\n'
        b'{"id":"\xe2\x80\xa8","x":3}\n{"x": "bad", "id": 4}'
    )
    task, found = ask(model="tiny", dataset=upload("d.jsonl", content))
    assert (task.params["format"], task.result["failed_count"]) == ("jsonl", 1)
    assert found.isascii()
    assert b'"input":{"x": 1.50, "id": "a"}' in found
    one, two, three, four = lines(found)
    assert one == {
        "row": 1, "id": "a", "input": {"x": 1.5, "id": "a"}, "success": True,
        "output": {"y": 3.0},
    }  # fmt: skip
    assert (two["row"], two["output"]) == (2, {"y": 4.0})
    assert (three["id"], three["output"]) == ("\u2028", {"y": 6.0})
    assert (four["row"], four["id"], four["success"]) == (4, 4, False)
    assert four["error"] == {"code": "bad_item", "detail": "x must be a number"}


def test_a_comma_is_no_decimal_comma_but_between_semicolons(
    version: ModelVersion, ask: Callable[..., Any], upload: Callable[..., str]
) -> None:
    for name, content in (("d.csv", b'id,x\na,"1,5"\n'), ("d.jsonl", b'{"x": "1,5"}')):
        task, _ = ask(model="tiny", dataset=upload(name, content))
        assert task.result["failed_count"] == 1


def test_a_parquet_file_is_answered_in_parquet_with_its_own_types(
    version: ModelVersion, ask: Callable[..., Any], upload: Callable[..., str]
) -> None:
    values = pyarrow.table(
        {
            "x": pyarrow.array([1.5, None, 3.0, 4.0, 5.0]),
            "id": pyarrow.array([7, 8, 9, 10, 11], pyarrow.int16()),
            "kind": pyarrow.array(["a", "b", "a", "b", "a"]).dictionary_encode(),
        }
    )
    file = io.BytesIO()
    parquet.write_table(values, file, row_group_size=3)
    task, found = ask(model="tiny", dataset=upload("d.parquet", file.getvalue()))
    assert (task.result["total_count"], task.result["failed_count"]) == (5, 1)
    rows = parquet.read_table(io.BytesIO(found))
    assert rows.column_names == [
        "row", "x", "id", "kind", "success", "y", "error", "detail",
    ]  # fmt: skip
    assert rows.schema.field("id").type == pyarrow.int16()
    assert rows["row"].to_pylist() == [1, 2, 3, 4, 5]
    assert rows["kind"].to_pylist() == ["a", "b", "a", "b", "a"]
    assert rows["y"].to_pylist() == [3.0, None, 6.0, 8.0, 10.0]
    assert rows["error"].to_pylist() == [None, "bad_item", None, None, None]


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_results_come_in_the_format_that_is_asked_for(
    version: ModelVersion,
    ask: Callable[..., Any],
    upload: Callable[..., str],
    form: str,
) -> None:
    body = {"model": "tiny", "format": form}
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"id": ["a", "b"], "x": [1, 2]}), file)
    for name, content in (
        ("d.csv", b"id,x\na,1\nb,2\n"),
        ("d.jsonl", b'{"id":"a","x":1}\n{"id":"b","x":2}\n'),
        ("d.parquet", file.getvalue()),
    ):
        task, found = ask(dataset=upload(name, content), **body)
        assert [p.name for p in (store.task_path(task.pk) / "files").iterdir()] == [
            f"results.{form}"
        ]
        if form == "jsonl":
            assert [(one["id"], one["output"]["y"]) for one in lines(found)] == [
                ("a", 2.0), ("b", 4.0),
            ]  # fmt: skip
            continue
        rows = (
            table(found)
            if form == "csv"
            else parquet.read_table(io.BytesIO(found)).to_pylist()
        )
        assert [float(one["y"]) for one in rows] == [2.0, 4.0]


def test_a_list_of_smiles_is_screened_against_one_protein(
    pairs: ModelVersion, ask: Callable[..., Any], upload: Callable[..., str]
) -> None:
    dataset = upload("d.smi", b"CCO ethanol\n# one\n\nC\tmethane gas\nCC\n")
    _, found = ask(model="dta", dataset=dataset, protein="MKV")
    rows = table(found)
    assert [(row["row"], row["id"], row["smiles"]) for row in rows] == [
        ("1", "ethanol", "CCO"), ("2", "methane gas", "C"), ("3", "", "CC"),
    ]  # fmt: skip
    assert [row["affinity"] for row in rows] == ["303.0", "301.0", "302.0"]
    assert "MKV" not in found.decode()


def test_sequences_are_answered_with_one_ligand(
    pairs: ModelVersion, ask: Callable[..., Any], upload: Callable[..., str]
) -> None:
    dataset = upload("d.fasta", b">P1 kinase\nMK\nV\n\n>P2\nM\n>P3\nMKVL")
    _, found = ask(model="dta", dataset=dataset, ligand="CC", format="jsonl")
    assert [(one["id"], one["output"]["affinity"]) for one in lines(found)] == [
        ("P1", 302.0), ("P2", 102.0), ("P3", 402.0),
    ]  # fmt: skip


def test_every_protein_meets_every_ligand(
    pairs: ModelVersion, ask: Callable[..., Any], upload: Callable[..., str]
) -> None:
    proteins = upload("p.fasta", b">P1\nM\n>P2\nMK\n>P3\nMKV\n")
    ligands = upload("l.smi", b"C a\nCC b\nCCC c\nCCCC d\nCCCCC e\n")
    task, found = ask(model="dta", ligands=ligands, proteins=proteins)
    rows = table(found)
    assert task.params["count"] == len(rows) == 15
    assert [int(row["row"]) for row in rows] == list(range(1, 16))
    assert [(r["protein_id"], r["ligand_id"], float(r["affinity"])) for r in rows] == [
        (f"P{p}", name, 100.0 * p + n)
        for p in (1, 2, 3)
        for n, name in enumerate("abcde", 1)
    ]
    assert set(task.params["uploads"]) == {ligands, proteins}


def test_a_table_of_ligands_takes_the_one_protein_too(
    pairs: ModelVersion, ask: Callable[..., Any], upload: Callable[..., str]
) -> None:
    dataset = upload("d.csv", b"id,smiles\n1,CC\n2,C\n")
    _, found = ask(model="dta", dataset=dataset, protein="MK")
    assert [row["affinity"] for row in table(found)] == ["202.0", "201.0"]


def test_the_best_are_kept_in_order_with_their_rows(
    pairs: ModelVersion, ask: Callable[..., Any], upload: Callable[..., str]
) -> None:
    dataset = upload("d.smi", b"C a\nCCC b\nCC c\nCCCC d\nCC e\n")
    task, found = ask(model="dta", dataset=dataset, protein="M", top_k=3)
    assert [(r["rank"], r["row"], r["id"], r["affinity"]) for r in table(found)] == [
        ("1", "4", "d", "104.0"), ("2", "2", "b", "103.0"), ("3", "3", "c", "102.0"),
    ]  # fmt: skip
    assert task.result | {"total_count": 5, "kept_count": 3} == task.result


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_the_best_may_be_the_lowest_and_come_in_any_format(
    version: ModelVersion,
    ask: Callable[..., Any],
    upload: Callable[..., str],
    form: str,
) -> None:
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"x": [4, 2, 9, 2, 7, 1, 8]}), file)
    _, found = ask(
        model="tiny", dataset=upload("d.parquet", file.getvalue()), format=form,
        top_k=4, rank_by="y", rank_order="lowest",
    )  # fmt: skip
    if form == "jsonl":
        rows = [{**one, **one.get("output", {})} for one in lines(found)]
    elif form == "csv":
        rows = [{k: float(v or 0) if k != "success" else v for k, v in one.items()}
                for one in table(found)]  # fmt: skip
    else:
        rows = parquet.read_table(io.BytesIO(found)).to_pylist()
    assert [(one["rank"], one["row"], one["y"]) for one in rows] == [
        (1, 6, 2.0), (2, 2, 4.0), (3, 4, 4.0), (4, 1, 8.0),
    ]  # fmt: skip


def test_a_graph_that_keeps_an_axis_of_one_ranks_as_well(
    db: None, ask: Callable[..., Any], upload: Callable[..., str]
) -> None:
    told = ("x", onnx_files.FLOAT, ["b", 1]), ("y", onnx_files.FLOAT, ["b", 1])
    graph = onnx_files.model([onnx_files.node("Neg")], [told[0]], [told[1]])
    onnx_files.make_version("net", graph)
    dataset = upload("d.jsonl", b'{"x": [3]}\n{"x": [1]}\n{"x": [2]}\n')
    _, found = ask(model="net", dataset=dataset, top_k=2)
    assert [one["output"]["y"] for one in lines(found)] == [[-1.0], [-2.0]]


def test_more_may_be_asked_for_than_there_are_and_errors_have_no_rank(
    version: ModelVersion, ask: Callable[..., Any], upload: Callable[..., str]
) -> None:
    dataset = upload("d.csv", b"x\n1\nbad\n3\n")
    task, found = ask(model="tiny", dataset=dataset, top_k=10)
    assert [row["row"] for row in table(found)] == ["3", "1"]
    assert (task.result["failed_count"], task.result["kept_count"]) == (1, 2)


def test_a_model_that_cannot_load_tells_each_row_of_a_file(
    version: ModelVersion, ask: Callable[..., Any], upload: Callable[..., str]
) -> None:
    dataset = upload("d.csv", b"id,x\na,1\nb,2\nc,3\n")
    (store.model_path(version.digest) / "config.json").write_text("{}")
    task, found = ask(model="tiny", dataset=dataset)
    assert (task.state, task.reason) == (State.FAILED, "model_unavailable")
    assert [row["id"] for row in table(found)] == ["a", "b", "c"]
    assert {(row["error"], row["detail"]) for row in table(found)} == {
        ("model_unavailable", task.message)
    }


def test_without_a_model_the_newest_that_takes_the_rows_answers(
    version: ModelVersion, ask: Callable[..., Any], upload: Callable[..., str]
) -> None:
    task, _ = ask(dataset=upload("d.csv", b"id,x\na,1\n"))
    assert task.params["model"] == "tiny:1"


def test_nothing_but_the_results_is_left_of_a_finished_batch(
    version: ModelVersion, ask: Callable[..., Any], upload: Callable[..., str]
) -> None:
    packed = gzip.compress(b"x\n1\n2\n3\n", mtime=0)
    task, _ = ask(model="tiny", dataset=upload("d.csv.gz", packed))
    left = store.task_path(task.pk).rglob("*.*")
    assert {path.name for path in left} == {"log.txt", "results.csv"}
    assert not task.shards.exists()
    assert not list((store.root() / "aside").iterdir())


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"dataset": "smi"}, "protein"),
        ({"dataset": "smi", "protein": "M", "ligand": "C"}, "ligand"),
        ({"dataset": "fasta"}, "ligand"),
        ({"dataset": "csv", "proteins": "fasta"}, "dataset"),
        ({"proteins": "fasta", "ligands": "smi", "protein": "M"}, "protein"),
        ({"dataset": "smi", "ligands": "smi", "proteins": "fasta"}, "dataset"),
        ({"ligands": "csv", "protein": "M"}, "ligands"),
        ({"ligands": "fasta", "proteins": "smi"}, "ligands"),
        ({"ligands": "smi", "proteins": "csv"}, "proteins"),
        ({"inputs": [{}], "protein": "M"}, "protein"),
        ({"inputs": [{}], "rank_by": "affinity"}, "rank_by"),
        ({"inputs": [{}], "top_k": 0}, "top_k"),
        ({"inputs": [{}], "top_k": 3, "rank_by": "none"}, "rank_by"),
        ({"inputs": [{}], "format": "xml"}, "format"),
    ],
)
def test_what_does_not_go_together_is_refused_by_field(
    pairs: ModelVersion,
    api: APIClient,
    upload: Callable[..., str],
    body: dict[str, Any],
    field: str,
) -> None:
    there = {
        "smi": lambda: upload("d.smi", b"C\n"),
        "fasta": lambda: upload("d.fasta", b">P\nM\n"),
        "csv": lambda: upload("d.csv", b"smiles\nC\n"),
    }
    named = {
        name: there[value]() if name in ("dataset", "ligands", "proteins") else value
        for name, value in body.items()
    }
    response = api.post(BATCH, {"model": "dta", **named}, format="json")
    assert response.status_code == 422
    assert set(response.json()["errors"]) == {field}
    assert not Task.objects.exists()


def test_a_model_without_a_place_for_a_protein_is_refused(
    version: ModelVersion, api: APIClient, upload: Callable[..., str]
) -> None:
    body = {"model": "tiny", "dataset": upload("d.csv", b"x\n1\n"), "protein": "M"}
    response = api.post(BATCH, body, format="json")
    assert (response.status_code, set(response.json()["errors"])) == (422, {"model"})


def test_an_upload_that_a_batch_reads_is_not_deleted(
    pairs: ModelVersion, api: APIClient, alice: User, upload: Callable[..., str]
) -> None:
    ligands, proteins = upload("l.smi", b"C\n"), upload("p.fasta", b">P\nM\n")
    body = {"model": "dta", "ligands": ligands, "proteins": proteins}
    assert api.post(BATCH, body, format="json").status_code == 202
    for one in (ligands, proteins):
        assert api.delete(f"/api/v1/uploads/{one}").status_code == 409
