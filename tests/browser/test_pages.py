"""The pages that there are, with all they load; and in chromium, where it is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from compass.trial import TrialStack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

PAGES = {"/admin/login/": "Log in", "/api/docs": "swagger-ui"}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrialStack]:
    stack = TrialStack(tmp_path_factory.mktemp("browser") / "data", port=8471)
    stack.environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COMPASS_", "DJANGO_"))
    }
    with stack:
        yield stack


@pytest.mark.parametrize("path", PAGES)
def test_a_page_comes_with_everything_that_it_loads(
    stack: TrialStack, path: str
) -> None:
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        page = client.get(path)
        assert page.status_code == 200
        assert PAGES[path] in page.text
        loaded = re.findall(
            r"(?:src|href)=\"([^\"]+\.(?:js|css|png)[^\"]*)\"", page.text
        )
        assert loaded
        for address in loaded:
            found = client.get(urljoin(path, address))
            assert found.status_code == 200, address
            assert found.content, address


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize(
    ("path", "words"), [("/admin/login/", "Password"), ("/api/docs", "/api/v1/tasks")]
)
def test_chromium_draws_it(
    stack: TrialStack, tmp_path: Path, path: str, words: str
) -> None:
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu"]
    command += [f"--user-data-dir={tmp_path}", "--virtual-time-budget=15000"]
    command += ["--dump-dom", stack.url + path]
    drawn = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert words in drawn.stdout
