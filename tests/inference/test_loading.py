from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from inference import loading
from inference.cache import Facts
from registry import store
from registry.errors import Problem
from registry.models import ModelVersion
from tests.inference import tiny


def facts_of(version: ModelVersion) -> Facts:
    found = loading.look(version.pk)
    assert found is not None
    return found


def test_a_whole_model_loads(version: ModelVersion) -> None:
    assert loading.load(facts_of(version)).nbytes == 8


def test_a_deleted_version_has_no_facts(version: ModelVersion) -> None:
    version.delete()
    assert loading.look(1) is None


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "signature.json"])
def test_a_flipped_bit_in_any_file_is_found(version: ModelVersion, name: str) -> None:
    path = store.model_path(version.digest) / name
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(Problem) as caught:
        loading.load(facts_of(version))
    assert caught.value.code == "model_unavailable"
    assert "not those that were registered" in caught.value.detail
    assert tiny.Predictor.loads == []


def test_missing_files_are_told_without_a_path(version: ModelVersion) -> None:
    directory = store.model_path(version.digest)
    directory.rename(directory.with_name("gone"))
    with pytest.raises(Problem) as caught:
        loading.load(facts_of(version))
    assert caught.value.code == "model_unavailable"
    assert str(directory.parent) not in caught.value.detail


def test_a_recipe_that_cannot_load_shows_nothing_of_why(db: None) -> None:
    broken = tiny.make_version(config={"recipe": "tiny", "params": {"broken": True}})
    with pytest.raises(Problem) as caught:
        loading.load(facts_of(broken))
    assert caught.value.code == "model_unavailable"
    assert tiny.SECRET not in caught.value.detail


def test_a_worker_that_has_served_nothing_has_no_torch(tmp_path: Path) -> None:
    code = (
        "import django, sys; django.setup();"
        "from inference import worker, tasks, control, views;"
        "worker.Worker('inference@one');"
        "sys.exit('torch' in sys.modules)"
    )
    environment = {
        "DJANGO_SETTINGS_MODULE": "compass.settings",
        "COMPASS_DATA_DIR": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == 0
