"""Parquet files of strangers that are made to take the memory, the processor or the process."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pyarrow
import pytest
from pyarrow import parquet
from rest_framework.test import APIClient

from inference import light, strange, unpack
from inference.batch import BatchRun
from inference.cache import ModelCache
from inference.ending import Ended
from inference.sources.arrow import Parquet
from inference.texts import Typed
from registry import confined, store, turns
from registry.errors import BadData
from registry.models import ModelVersion, Node, Task, Upload
from registry.scheduler import dispatch

BATCH = "/api/v1/inference/batch"
MIB = 1024**2
LONG = "a" * 10_000_000
NAIVE = datetime(2020, 1, 2)  # noqa: DTZ001


@pytest.fixture
def unpacked(tmp_path: Path) -> Callable[..., tuple[int, list[dict[str, Any]]]]:
    """Unpack a file as a worker does; the number of its rows, and all of them."""

    def unpacked(
        content: bytes, every: int = 3, written: int = 100 * MIB
    ) -> tuple[int, list[dict[str, Any]]]:
        path, target = tmp_path / "d.parquet", tmp_path / "items.arrow"
        path.write_bytes(content)
        count, starts = strange.unpack(path, target, every, written, lambda: None)
        assert len(starts) == -(-count // every)
        return count, read(target)

    return unpacked


@pytest.fixture
def refused(unpacked: Callable[..., Any], tmp_path: Path) -> Callable[..., str]:
    """Why a file is not taken, neither to look at nor whole."""

    def refused(content: bytes, *, by_look: bool = True, **options: Any) -> str:
        with pytest.raises(BadData) as caught:
            unpacked(content, **options)
        if by_look:
            with pytest.raises(BadData):
                strange.look(tmp_path / "d.parquet", 100)
        assert str(tmp_path) not in caught.value.detail
        assert "\n" not in caught.value.detail
        return caught.value.detail

    return refused


@pytest.fixture
def badly(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def badly(how: str) -> None:
        monkeypatch.setattr(strange, "MODULE", "tests.inference.unpack_badly")
        monkeypatch.setenv("LANG", how)

    return badly


@pytest.fixture
def run(api: APIClient, inference_node: Node, cache: ModelCache) -> Callable[..., Task]:
    """The task of a batch over a data set, once it is over."""

    def run(dataset: str) -> Task:
        body = {"model": "tiny", "dataset": dataset}
        response = api.post(BATCH, body, format="json")
        assert response.status_code == 202, response.json()
        dispatch()
        task = Task.objects.select_related("node").get(pk=response.json()["id"])
        assert task.node is not None
        BatchRun(task, task.node, cache).run()
        task.refresh_from_db()
        return task

    return run


def written(values: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    values = values if isinstance(values, pyarrow.Table) else pyarrow.table(values)
    parquet.write_table(values, file, **options)
    return file.getvalue()


def read(path: Path) -> list[dict[str, Any]]:
    with pyarrow.ipc.open_file(pyarrow.memory_map(str(path))) as reader:
        rows: list[dict[str, Any]] = reader.read_all().to_pylist()
    return rows


def bomb(rows: int = 200_000, **options: Any) -> bytes:
    """Few bytes: one long text, and so many rows that have it."""
    text = pyarrow.array([LONG]).dictionary_encode()
    column = text.take(pyarrow.array([0] * rows))
    return written({"x": column}, compression="zstd", **options)


def varint(number: int) -> bytes:
    """A number as Thrift's compact protocol writes it."""
    rest, found = (number << 1) ^ (number >> 63), b""
    rest &= 2**64 - 1
    while rest > 127:
        found, rest = found + bytes([rest & 127 | 128]), rest >> 7
    return found + bytes([rest])


def with_rows(content: bytes, old: int, new: int) -> bytes:
    """The file with another number of rows in its foot."""
    size = int.from_bytes(content[-8:-4], "little")
    foot = content[-8 - size : -8]
    before, after = b"\x16" + varint(old), b"\x16" + varint(new)
    assert before in foot
    foot = foot.replace(before, after, 1)
    return content[: -8 - size] + foot + len(foot).to_bytes(4, "little") + b"PAR1"


@pytest.mark.parametrize("stored", [True, False])
def test_a_dictionary_of_one_long_text_is_refused_once_it_is_too_much(
    refused: Callable[..., str], stored: bool
) -> None:
    content = bomb(store_schema=stored)
    assert len(content) < 2000
    assert "unpacks to more than 104,857,600 bytes" in refused(content, by_look=False)


def test_what_a_file_may_unpack_to_is_told_by_its_size(
    refused: Callable[..., str],
    unpacked: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(strange, "HARMLESS", 50 * MIB)
    text = refused(bomb(), by_look=False, written=10_000 * MIB)
    assert "unpacks to more than 52,428,800 bytes" in text
    content = bomb(rows=10)
    assert "unpacks to more than 52" in refused(content, by_look=False)
    assert unpacked(bomb(rows=4))[0] == 4
    monkeypatch.setattr(strange, "RATIO", 70 * MIB // len(content))
    monkeypatch.setattr(strange, "HARMLESS", 0)
    assert unpacked(bomb(rows=5))[0] == 5


def test_a_file_that_says_itself_that_it_unpacks_to_too_much_makes_no_task(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strange, "HARMLESS", MIB)
    content = written({"x": [0.0] * 200_000}, compression="zstd", use_dictionary=False)
    assert len(content) < MIB / strange.RATIO
    assert "it unpacks to more than 1,048,576 bytes" in refused(content)


def test_of_a_dictionary_of_one_long_text_only_few_rows_are_looked_at(
    tmp_path: Path,
) -> None:
    path = tmp_path / "d.parquet"
    path.write_bytes(bomb())
    found = strange.look(path, 100)
    assert found.rows == 200_000
    assert 1 <= found.first.num_rows < 10


def test_a_text_that_is_too_long_for_a_row_is_refused(
    refused: Callable[..., str],
) -> None:
    column = {"x": pyarrow.array(["a" * 80_000_000])}
    content = written(column, compression="zstd", use_dictionary=False)
    assert len(content) < 10_000
    assert "a row has more than 67,108,864 bytes" in refused(content)


def test_a_row_of_too_many_values_is_refused_though_they_are_few_bytes(
    refused: Callable[..., str],
) -> None:
    column = pyarrow.array([[None] * 3_000_000], pyarrow.list_(pyarrow.null()))
    assert "a row has more than" in refused(written({"x": column}))


def test_what_takes_too_much_memory_is_refused(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strange, "MEMORY", 64 * MIB)
    column = {"x": pyarrow.array(["a" * 60_000_000])}
    content = written(column, compression="zstd", use_dictionary=False)
    assert "takes more than 67,108,864 bytes of memory" in refused(content)


def test_long_rows_behind_short_ones_are_read_a_few_at_a_time(
    unpacked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strange, "MEMORY", 128 * MIB)
    texts = ["x"] * 6000 + ["a" * MIB] * 60
    count, rows = unpacked(written({"x": texts}, compression="zstd"), every=2000)
    assert (count, [row["x"] for row in rows]) == (6060, texts)


def test_small_rows_are_read_many_at_once_however_large_their_dictionary_is() -> None:
    texts = pyarrow.array([f"{n:0300d}" for n in range(10_000)])
    rows = pyarrow.array([n % 10_000 for n in range(20_000)])
    content = written({"x": pyarrow.DictionaryArray.from_arrays(rows, texts)})
    file = parquet.ParquetFile(io.BytesIO(content))
    sizes = [batch.num_rows for batch in light._batches(file)]
    assert sizes[0] == light.FEW
    assert max(sizes) == light.MANY
    assert sum(sizes) == 20_000


@pytest.mark.parametrize("codec", ["zstd", "none"])
def test_a_page_that_claims_two_gigabytes_is_refused(
    refused: Callable[..., str], codec: str
) -> None:
    content = written({"x": list(range(1000))}, compression=codec, use_dictionary=False)
    assert content[4:7] == b"\x15\x00\x15"
    end = 7 + next(n for n, byte in enumerate(content[7:]) if byte < 128) + 1
    refused(content[:7] + varint(2**31 - 1) + content[end:])


def test_a_file_that_ends_early_or_has_a_wrong_bit_is_read_or_refused(
    tmp_path: Path,
) -> None:
    seed = random.Random(20)
    values = {
        "x": [n * 1.5 for n in range(50)],
        "text": [f"text {n % 7}" for n in range(50)],
        "list": [[n] * (n % 4) for n in range(50)],
        "at": [datetime(2020, 1, 1, n % 24, tzinfo=UTC) for n in range(50)],
    }
    whole = written(values, row_group_size=20)
    damaged = [whole[: len(whole) * n // 40] for n in range(40)]
    for _ in range(200):
        content = bytearray(whole)
        content[seed.randrange(4, len(whole) - 4)] ^= 1 << seed.randrange(8)
        damaged.append(bytes(content))
    files = []
    for number, content in enumerate(damaged):
        path = tmp_path / f"{number}.parquet"
        path.write_bytes(content)
        files.append((str(path), str(path.with_suffix(".arrow"))))
    order = {
        "files": files,
        "every": 20,
        "count": None,
        "memory": strange.MEMORY,
        "allowed": 10 * MIB,
        "written": 10 * MIB,
        "processor": 40,
    }
    ended = confined.run(
        "tests.inference.unpack_many",
        [json.dumps(order)],
        seconds=50,
        variables=strange.VARIABLES,
    )
    assert ended.found is not None, ended.last_words
    kinds = set()
    for (_, target), one in zip(files, ended.found["found"], strict=True):
        (kind,) = {"rows", "error", "ended"} & set(one)
        kinds.add(kind)
        if kind == "rows":
            assert len(read(Path(target))) == one["written"]
        elif kind == "error":
            assert one["error"]
            assert str(tmp_path) not in one["error"]
    assert {"rows", "error"} <= kinds


def test_a_text_that_is_no_unicode_is_refused(refused: Callable[..., str]) -> None:
    content = written({"x": ["abcdefgh"]}, compression="none")
    assert "UTF8" in refused(content.replace(b"abcdefgh", b"abc\xff\xfefgh"))


def test_columns_in_columns_are_read(unpacked: Callable[..., Any]) -> None:
    texts = pyarrow.array(["a", "b", "a", None]).dictionary_encode()
    values = pyarrow.table(
        {
            "struct": pyarrow.StructArray.from_arrays([texts], ["kind"]),
            "list": [[[1, 2], None], [], None, [[3]]],
            "map": pyarrow.array(
                [[("a", 1)], [], None, [("b", 2), ("c", None)]],
                pyarrow.map_(pyarrow.string(), pyarrow.int8()),
            ),
            "kinds": pyarrow.ListArray.from_arrays([0, 2, 2, 4, 4], texts),
        }
    )
    assert unpacked(written(values)) == (4, values.to_pylist())


def test_types_that_are_nested_too_deep_are_refused(
    refused: Callable[..., str],
) -> None:
    value: Any = 1
    for _ in range(light.DEEPEST + 2):
        value = {"a": value}
    assert "nested more than 32 deep" in refused(written({"x": [value]}))


def test_no_columns_or_one_twice_are_refused(refused: Callable[..., str]) -> None:
    none = pyarrow.table({"x": [1, 2]}).select([])
    assert "it has no columns" in refused(written(none))
    one = pyarrow.array([1])
    twice = pyarrow.Table.from_arrays([one, one], ["x", "x"])
    assert "it has a column twice" in refused(written(twice))


def test_a_file_without_rows_is_unpacked_and_makes_no_task(
    version: ModelVersion,
    api: APIClient,
    upload: Callable[..., str],
    unpacked: Callable[..., Any],
) -> None:
    content = written({"x": pyarrow.array([], pyarrow.float64())})
    assert unpacked(content) == (0, [])
    body = {"model": "tiny", "dataset": upload("d.parquet", content)}
    response = api.post(BATCH, body, format="json")
    assert (response.status_code, response.json()["code"]) == (422, "bad_data")
    assert "no rows" in response.json()["detail"]


@pytest.mark.parametrize("said", [-5, -(2**62), 4, 10**9, 2**62])
def test_a_number_of_rows_that_is_not_true_ends_as_bad_data(
    version: ModelVersion,
    api: APIClient,
    upload: Callable[..., str],
    run: Callable[..., Task],
    said: int,
) -> None:
    content = with_rows(written({"x": [1.0] * 10}), 10, said)
    dataset = upload("d.parquet", content)
    if said == 4:
        task = run(dataset)
        assert (task.state, task.reason) == ("failed", "bad_data")
        return
    response = api.post(BATCH, {"model": "tiny", "dataset": dataset}, format="json")
    assert response.status_code == 422
    assert response.json()["code"] == ("bad_data" if said < 0 else "too_many_items")


VALUES: list[tuple[pyarrow.DataType, Any]] = [
    (pyarrow.null(), None),
    (pyarrow.bool_(), True),
    *((one, 7) for one in (
        pyarrow.int8(), pyarrow.int16(), pyarrow.int32(), pyarrow.int64(),
        pyarrow.uint8(), pyarrow.uint16(), pyarrow.uint32(), pyarrow.uint64(),
    )),
    *((one, 1.5) for one in (pyarrow.float16(), pyarrow.float32(), pyarrow.float64())),
    (pyarrow.string(), "ä"), (pyarrow.large_string(), "ä"), (pyarrow.string_view(), "ä"),
    (pyarrow.binary(), b"\0"), (pyarrow.large_binary(), b"\0"),
    (pyarrow.binary(2), b"ab"), (pyarrow.binary_view(), b"\0"),
    (pyarrow.date32(), date(2020, 1, 2)), (pyarrow.date64(), date(2020, 1, 2)),
    (pyarrow.time32("s"), time(1, 2)), (pyarrow.time32("ms"), time(1, 2)),
    (pyarrow.time64("us"), time(1, 2)), (pyarrow.time64("ns"), time(1, 2)),
    *((pyarrow.timestamp(unit), NAIVE) for unit in ("s", "ms", "us", "ns")),
    (pyarrow.timestamp("us", "Europe/Berlin"), datetime(2020, 1, 2, tzinfo=UTC)),
    *((pyarrow.duration(unit), timedelta(1)) for unit in ("s", "ms", "us", "ns")),
    (pyarrow.decimal32(5, 2), Decimal("1.20")), (pyarrow.decimal64(9, 2), Decimal("1.20")),
    (pyarrow.decimal128(9, 2), Decimal("1.20")), (pyarrow.decimal256(50, 2), Decimal("1.20")),
    (pyarrow.list_(pyarrow.int8()), [1, None]), (pyarrow.large_list(pyarrow.int8()), [1]),
    (pyarrow.list_(pyarrow.int8(), 2), [1, 2]), (pyarrow.list_view(pyarrow.int8()), [1]),
    (pyarrow.struct([("a", pyarrow.string())]), {"a": "b"}),
    (pyarrow.map_(pyarrow.string(), pyarrow.date32()), [("a", date(2020, 1, 2))]),
    (pyarrow.dictionary(pyarrow.int8(), pyarrow.string()), "a"),
    (pyarrow.dictionary(pyarrow.int32(), pyarrow.int64()), 7),
    (pyarrow.uuid(), b"0" * 16), (pyarrow.json_(), "{}"), (pyarrow.bool8(), 1),
]  # fmt: skip


def test_a_column_of_every_type_is_read_as_it_stands(
    unpacked: Callable[..., Any],
) -> None:
    columns = {}
    for number, (kind, value) in enumerate(VALUES):
        storage = getattr(kind, "storage_type", kind)
        column = pyarrow.array([value, None, value, value], storage)
        if storage is not kind:
            column = pyarrow.ExtensionArray.from_storage(kind, column)
        try:
            content = written({"x": column})
        except pyarrow.ArrowNotImplementedError:
            continue  # Parquet has no such type
        columns[f"{number} {kind}"] = column
    assert len(columns) >= 40
    content = written(columns)
    expected = parquet.read_table(io.BytesIO(content)).to_pylist()
    assert unpacked(content) == (4, expected)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pyarrow.timestamp("us"), 2**62),
        (pyarrow.timestamp("ns"), 1),
        (pyarrow.timestamp("us", "Mars/Phobos"), 0),
        (pyarrow.date32(), 2**30),
    ],
)
def test_a_time_that_python_does_not_have_is_refused_with_its_column(
    refused: Callable[..., str], kind: Any, value: int
) -> None:
    try:
        pyarrow.array([value], kind).to_pylist()
    except (ValueError, OverflowError, LookupError):
        pass
    else:
        pytest.skip("pandas, which is no requirement, has such times")
    assert "column when, rows from 1:" in refused(
        written({"when": pyarrow.array([value], kind)})
    )


def test_cancel_while_unpacking_ends_the_process_and_leaves_no_file(
    tmp_path: Path, badly: Callable[[str], None]
) -> None:
    badly("sleep")
    seen: list[psutil.Process] = []

    def tick() -> None:
        seen.extend(children())
        if seen:
            raise Ended("cancel")

    path = tmp_path / "d.parquet"
    path.write_bytes(written({"x": [1]}))
    source = Parquet(path, tmp_path / "home", Typed({}), {})
    with pytest.raises(Ended):
        source.prepare(2, tick)
    assert seen
    assert not any(one.is_running() for one in seen)
    assert list((tmp_path / "home").iterdir()) == []
    assert list((store.root() / "aside").iterdir()) == []


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    program = (
        "from inference import strange; from pathlib import Path;"
        "strange.MODULE = 'tests.inference.unpack_badly';"
        "strange.unpack(Path('manage.py'), Path('b'), 1, 1, lambda: None)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=confined.ROOT,
        env={**os.environ, "LANG": "sleep", "COMPASS_DATA_DIR": str(tmp_path)},
    )
    try:
        there = psutil.Process(parent.pid)
        while not (found := there.children()):
            assert parent.poll() is None
        child = found[0]
    finally:
        parent.kill()
        parent.wait()
    assert psutil.wait_procs([child], 20)[1] == []


def children() -> list[psutil.Process]:
    return [
        one
        for one in psutil.Process().children()
        if "tests.inference.unpack_badly" in one.cmdline()
    ]


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("SIGSEGV", "ended by SIGSEGV"),
        ("SIGABRT", "ended by SIGABRT"),
        ("SIGKILL", "ended by SIGKILL"),
        ("exit", "ended with code 3"),
        ("loop", "s of processor time"),
    ],
)
def test_however_reading_ends_the_file_is_refused_in_words(
    version: ModelVersion,
    api: APIClient,
    upload: Callable[..., str],
    badly: Callable[[str], None],
    how: str,
    text: str,
) -> None:
    badly(how)
    body = {"model": "tiny", "dataset": upload("d.parquet", written({"x": [1]}))}
    response = api.post(BATCH, body, format="json")
    assert (response.status_code, response.json()["code"]) == (422, "bad_data")
    assert text in response.json()["detail"]
    assert not Task.objects.exists()


def test_a_process_that_was_stopped_is_not_the_files_fault(
    version: ModelVersion,
    api: APIClient,
    upload: Callable[..., str],
    run: Callable[..., Task],
    badly: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = upload("d.parquet", written({"x": [1]}))
    look = strange.look(store.object_path(_sha256(dataset)), 1)
    badly("SIGTERM")
    response = api.post(BATCH, {"model": "tiny", "dataset": dataset}, format="json")
    assert (response.status_code, response.json()["code"]) == (503, "busy")
    assert int(response["Retry-After"]) > 0
    monkeypatch.setattr(strange, "look", lambda path, count: look)
    for how, reason in (
        ("SIGTERM", "timeout_io"),
        ("none", "timeout_io"),
        ("errno", "disk_full"),
    ):
        badly(how)
        task = run(dataset)
        assert [*task.events.order_by("pk").values_list("reason", flat=True)][
            -1
        ] == reason


def test_a_full_disk_is_not_the_files_fault(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    path.write_bytes(written({"x": [1]}))
    with pytest.raises(OSError, match="No space left") as caught:
        strange.unpack(path, Path("/dev/full"), 1, MIB, lambda: None)
    assert caught.value.errno == errno.ENOSPC
    assert unpack.work({"path": str(tmp_path / "gone")}) == {"errno": errno.ENOENT}


def test_only_so_many_files_are_looked_at_at_once(
    version: ModelVersion,
    api: APIClient,
    upload: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(strange, "PATIENCE", 0.01)
    dataset = upload("d.parquet", written({"x": [1]}))
    looks = [turns.turn("parquet-look", strange.LOOKS) for _ in range(strange.LOOKS)]
    with ExitStack() as taken:
        for one in looks:
            taken.enter_context(one)
        response = api.post(BATCH, {"model": "tiny", "dataset": dataset}, format="json")
    assert (response.status_code, response.json()["code"]) == (503, "busy")
    assert int(response["Retry-After"]) > 0


def test_so_many_files_are_unpacked_at_once_and_a_cancel_is_seen_in_line(
    tmp_path: Path, badly: Callable[[str], None]
) -> None:
    badly("sleep")  # if it got its turn

    def tick() -> None:
        raise Ended("cancel")

    path = tmp_path / "d.parquet"
    path.write_bytes(written({"x": [1]}))
    with ExitStack() as taken:
        for _ in range(strange.UNPACKS):
            turn = turns.turn("parquet-unpack", strange.UNPACKS)
            taken.enter_context(turn)
        with pytest.raises(Ended):
            strange.unpack(path, tmp_path / "x", 1, MIB, tick)
        assert children() == []


def test_a_bomb_behind_good_rows_fails_its_task_in_words(
    version: ModelVersion, upload: Callable[..., str], run: Callable[..., Task]
) -> None:
    texts = [*["1"] * 200, "a" * 80_000_000]
    task = run(upload("d.parquet", written({"x": texts}, compression="zstd")))
    assert (task.state, task.reason) == ("failed", "bad_data")
    assert "a row has more than" in task.message


def _sha256(dataset: str) -> str:
    return Upload.objects.get(pk=dataset).sha256
