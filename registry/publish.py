"""From a finished training's directory to a registered model version."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from registry import clock, formats, plain, recipes, store
from registry.addresses import check_name
from registry.errors import Problem
from registry.models import Model, ModelVersion, Task, Upload

CONFIG, SIGNATURE, METRICS = "config.json", "signature.json", "metrics.json"
TEXTS = (CONFIG, SIGNATURE, METRICS)
HEADER_LIMIT = 100 * 1024**2  # bytes; the format's own limit


@dataclass(frozen=True)
class Published:
    """A model directory that stands in the store, and what its files say."""

    digest: str
    size: int
    weights_sha256: str
    recipe: str
    params: dict[str, Any]
    versions: dict[str, str]
    signature: dict[str, Any]
    metrics: dict[str, Any]


def prepare(directory: Path) -> Published:
    """Check that the model in `directory` is whole and move it into the store.

    Raises Problem `model_unavailable` if it is not.
    """
    _check_there(directory, TEXTS)
    config, signature, metrics = (_read(directory / name) for name in TEXTS)
    recipe, params = config.get("recipe"), config.get("params")
    if not isinstance(recipe, str) or not isinstance(params, dict):
        raise _broken("config.json names no recipe and params")
    versions = libraries(config)
    formats.predictor(recipe)
    if not all(isinstance(signature.get(name), dict) for name in ("inputs", "outputs")):
        raise _broken("signature.json has no inputs and outputs")
    weights = directory / formats.weights(recipe)
    _check_there(directory, [weights.name])
    if weights.name == formats.SAFETENSORS:
        check_weights(weights)
    weights_sha256 = store.file_sha256(weights)
    digest, size = store.publish_model(directory)
    return Published(
        digest, size, weights_sha256, recipe, params, versions, signature, metrics
    )


def libraries(config: Mapping[str, Any]) -> dict[str, str]:
    """The versions of libraries that config.json names. Raises Problem `model_unavailable`."""
    told = config.get("versions") or {}
    if not isinstance(told, dict):
        raise _broken("the versions in config.json are no object")
    return {str(name): str(value) for name, value in told.items()}


def _check_there(directory: Path, names: Sequence[str]) -> None:
    missing = [name for name in names if not (directory / name).is_file()]
    if missing:
        raise _broken(f"it has no {', '.join(missing)}")


def register(
    published: Published, task: Task, name: str, *, dataset_sha256: str = ""
) -> ModelVersion:
    """Make the next version of the model `name`; a task has one version, however often asked.

    `dataset_sha256` is of a built-in data set; that of an upload stands in its row. Call it in the transaction that completes the task. Raises Problem `invalid` for a bad name.
    """
    earlier = ModelVersion.objects.filter(task=task).select_related("model").first()
    if earlier is not None:
        return earlier
    model, _ = Model.objects.get_or_create(
        name=check_name(name), defaults={"created_at": clock.now()}
    )
    return model.register(
        digest=published.digest,
        weights_sha256=published.weights_sha256,
        size=published.size,
        recipe=published.recipe,
        params=published.params,
        metrics=published.metrics,
        signature=published.signature,
        lineage=_lineage(published, task, dataset_sha256),
        task=task,
        owner=task.owner,
    )


def check_weights(path: Path) -> None:
    """See that a safetensors file is as long as its header says.

    Format: https://huggingface.co/docs/safetensors. Raises Problem `model_unavailable`.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(HEADER_LIMIT, size - 8):
            raise _broken(f"{path.name} has no header")
        try:
            header = json.loads(file.read(length))
            tensors = [v for k, v in header.items() if k != "__metadata__"]
            end = max((int(one["data_offsets"][1]) for one in tensors), default=0)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            raise _broken(f"the header of {path.name} cannot be read") from None
    if size != 8 + length + end:
        raise _broken(f"{path.name} is {size} bytes and should be {8 + length + end}")
    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise _broken(f"{path.name}: {error}") from None


@cache
def code_digest(recipe: str) -> str:
    """SHA-256 over the source files of the recipe's package, in the order of their names."""
    if formats.is_code_free(recipe):
        return ""
    spec = find_spec(recipes.get(recipe).fit.partition(":")[0])
    if spec is None or not spec.origin:
        return ""
    digest = hashlib.sha256()
    folder = Path(spec.origin).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _lineage(published: Published, task: Task, dataset_sha256: str) -> dict[str, Any]:
    return {
        "task": str(task.pk),
        "attempt": task.attempt,
        "dataset": _dataset(task, dataset_sha256),
        "seed": published.params.get("seed"),
        "code": code_digest(published.recipe),
        "versions": {
            "numpy": _installed("numpy"),
            "torch": _installed("torch"),
            "python": platform.python_version(),
            **published.versions,
        },
    }


def _dataset(task: Task, sha256: str) -> dict[str, str]:
    name = str(task.params.get("dataset", ""))
    upload = Upload.objects.filter(pk=name).first() if name.isdecimal() else None
    if upload is None:
        return {"name": name, "sha256": sha256}
    return {"id": name, "name": upload.name, "sha256": upload.sha256}


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _read(path: Path) -> dict[str, Any]:
    try:
        return plain.read_object(path.read_bytes())
    except ValueError as error:
        raise _broken(f"{path.name} cannot be read: {error}") from None


def _broken(why: str) -> Problem:
    return Problem("model_unavailable", f"The model is not whole: {why}.")
