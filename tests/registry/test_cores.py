from __future__ import annotations

from pathlib import Path

import pytest

from registry import cores


@pytest.mark.parametrize(
    ("text", "count"),
    [("max 100000", 8), ("200000 100000", 2), ("50000 100000", 1), ("9900000 100000", 8), ("odd", 8)],
)  # fmt: skip
def test_a_quota_of_the_control_group_bounds_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, count: int
) -> None:
    monkeypatch.setattr(cores, "ALLOWED", frozenset(range(8)))
    monkeypatch.setattr(cores, "QUOTA", tmp_path / "cpu.max")
    assert cores.count() == 8
    cores.QUOTA.write_text(f"{text}\n")
    assert cores.count() == count


def test_old_kernels_tell_less_of_a_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "STAT", tmp_path / "stat")
    cores.STAT.write_text("cpu 9 9 9 9\ncpu0 100 0 100 700 50\ncpu1 0 0 0 900 0 50 50 100 7\nintr 5\n")  # fmt: skip
    found = cores.busy_seconds()
    assert {core: round(100 * one) for core, one in found.items()} == {0: 200, 1: 200}
