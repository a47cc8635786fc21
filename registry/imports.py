"""Models from elsewhere: checked, tried out, and registered; or refused, and nothing is left."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry import clock, formats, model_files, origin, publish, store, trial
from registry.addresses import check_name
from registry.errors import Problem
from registry.models import Model, ModelVersion
from registry.publish import Published

SHOWN = 200  # characters of what a stranger says of a name


@dataclass(frozen=True)
class Ready:
    """A model that stands in the store and waits for its row; `origin` is what its archive says."""

    published: Published
    origin: dict[str, Any]
    filename: str
    sha256: str


def name_of(asked: str, path: Path) -> str:
    """The name that was asked for, or what an exported archive says. Raises Problem `invalid`."""
    told = asked or origin.read(path).get("model", "")
    if not told or not isinstance(told, str):
        text = "missing: say under which name the model is to stand"
        raise Problem("invalid", f"name: {text}.", errors={"name": [text]})
    try:
        return check_name(told)
    except Problem as problem:
        texts = problem.errors["model_name"]
        raise Problem("invalid", f"name: {texts[0]}.", errors={"name": texts}) from None


def prepare(path: Path, filename: str, sha256: str) -> Ready:
    """Check the file at `path`, try the model out, and put it into the store; takes seconds.

    Raises Problem `unsafe_model`, `bad_model`, `bad_archive`, `bad_params`, `unknown_recipe`,
    `too_large`, `unsupported_media_type`, `busy`.
    """
    told = origin.read(path)
    root = model_files.unpack(path, filename)
    try:
        recipe = model_files.check(root)
        found = trial.run(root, formats.predictor(recipe))
        model_files.complete(root, found.get("signature"))
        digest = store.directory_digest(root)
        if told and told.get("digest") != digest:
            text = (
                "Its files are not those that were exported: a bit of them has changed."
            )
            raise Problem("bad_model", text)
        try:
            published = publish.prepare(root)
        except Problem as problem:
            code = problem.code if problem.code == "unknown_recipe" else "bad_model"
            raise Problem(code, problem.detail) from None
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return Ready(published, told, filename, sha256)


def register(
    ready: Ready, name: str, owner: Any, description: str = ""
) -> ModelVersion:
    """Make it the next version of that name; call it in a transaction."""
    defaults = {"created_at": clock.now(), "description": description}
    model, _ = Model.objects.get_or_create(name=name, defaults=defaults)
    published = ready.published
    return model.register(
        verb="import",
        why=f"From {ready.filename}.",
        digest=published.digest,
        weights_sha256=published.weights_sha256,
        size=published.size,
        recipe=published.recipe,
        params=published.params,
        metrics=published.metrics,
        signature=published.signature,
        lineage=_lineage(ready),
        owner=owner,
    )


def _lineage(ready: Ready) -> dict[str, Any]:
    """Ours, and below `origin` what the archive says; a stranger's word."""
    told = ready.origin.get("lineage")
    before: dict[str, Any] = told if isinstance(told, dict) else {}
    dataset, published = before.get("dataset"), ready.published
    return {
        "task": None,
        "dataset": _texts(dataset) if isinstance(dataset, dict) else None,
        "seed": published.params.get("seed"),
        "code": publish.code_digest(published.recipe),
        "versions": published.versions,
        "imported": {"filename": ready.filename, "sha256": ready.sha256},
        "origin": ready.origin or None,
    }


def _texts(dataset: dict[str, Any]) -> dict[str, str]:
    names = ("id", "name", "sha256")
    return {name: str(dataset[name])[:SHOWN] for name in names if name in dataset}
