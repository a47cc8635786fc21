"""What the docs claim of the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
ROW = re.compile(r"^\| `([\w/]+\.py)` \| ([^|]+) \|", re.MULTILINE)


def test_the_way_of_a_task_is_read_in_under_a_thousand_lines() -> None:
    rows = ROW.findall((ROOT / "docs/architecture.md").read_text())
    assert len(rows) > 10
    total = 0
    for file, names in rows:
        lengths = {
            node.name: (node.end_lineno or 0) - node.lineno + 1
            for node in ast.parse((ROOT / file).read_text()).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        for name in re.findall(r"`(\w+)`", names):
            assert name in lengths, f"{file} has no {name}"
            total += lengths[name]
    assert total < 1000, total


def test_every_test_that_a_page_names_is_there() -> None:
    for page in PAGES:
        for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text()):
            assert f"def {name}(" in (ROOT / file).read_text(), f"{page.name}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_file_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"
    for name in re.findall(
        r"`((?:registry|training|inference|compass|tests|bench)/[\w/]+\.py)`", text
    ):
        assert (ROOT / name).exists(), f"{page.name} names {name}"
