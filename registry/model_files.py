"""From a stranger's file to the directory of a model, or a refusal with a reason.

Names decide nothing: what the first bytes show is what a file is taken for.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings

from registry import archives, formats, pickles, plain, recipes, schemas, sniff, store
from registry.archives import Growth
from registry.errors import Problem
from registry.publish import CONFIG, METRICS, SIGNATURE, check_weights, libraries

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
LONGEST = {CONFIG: 64 * 1024**2}  # bytes
LONGEST_TEXT = 4 * 1024**2  # bytes of any other text
LONGEST_ONNX = 2**31 - 1  # bytes; a message of protobuf cannot be longer
INSTEAD = "send its weights as safetensors with a config.json, or as ONNX"


def bad(text: str) -> Problem:
    return Problem("bad_model", text)


def check_head(filename: str, head: bytes) -> None:
    """Refuse by its first bytes what cannot be a model. Raises Problem `unsafe_model`, `unsupported_media_type`."""
    if kind := pickles.kind_of(head):
        text = f"{filename} is {kind}, which may run code when it is read; {INSTEAD}."
        raise Problem("unsafe_model", text)
    found = sniff.kind_of(head)
    if found not in (None, "zip", "gzip", "tar"):
        text = f"{filename} is {sniff.LABELS[found]}; a model comes as .tar, .tar.gz, .zip or .onnx."
        raise Problem("unsupported_media_type", text)


def unpack(path: Path, filename: str) -> Path:
    """A fresh directory aside with the model's files, none of which was read as a model yet.

    `path` is moved into it if it is one file. The caller removes the directory. Raises Problem
    `unsafe_model`, `bad_archive`, `bad_model`, `too_large`, `unsupported_media_type`.
    """
    with path.open("rb") as file:
        head = file.read(pickles.HEAD)
    check_head(filename, head)
    kind, root = sniff.kind_of(head), store.aside(".model")
    root.mkdir()
    try:
        if kind is None:
            path.replace(root / formats.WEIGHTS[formats.ONNX])
        else:
            limit = settings.ENVIRONMENT.model_limit
            growth = Growth(path.stat().st_size, limit, lambda: None)
            layout = "zip" if kind == "zip" else "tar"
            archives.unpack(path, layout, kind == "gzip", root, growth)
            _look_for_pickles(root)
            _flatten(root)
        _check_names(root)
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        raise
    return root


def check(root: Path) -> str:
    """See that the directory may be tried out, and complete it; its recipe.

    Raises Problem `bad_model`, `bad_params`, `unknown_recipe`, `too_large`.
    """
    if (root / formats.WEIGHTS[formats.ONNX]).exists():
        recipe = _check_onnx(root)
    else:
        recipe = _check_safetensors(root)
    if not (root / METRICS).exists():
        write(root / METRICS, {})
    read(root, METRICS)
    return recipe


def complete(root: Path, told: Mapping[str, Any] | None) -> None:
    """Write the signature that the model's files tell by themselves, or see that it is the one there.

    Raises Problem `bad_model`.
    """
    if told is None:
        return
    if not (root / SIGNATURE).exists():
        write(root / SIGNATURE, told)
    found = read(root, SIGNATURE)
    for name in ("inputs", "outputs", "tensors"):
        if found.get(name) != told.get(name):
            raise bad(f"{SIGNATURE}: its {name} are not those of the graph.")


def read(root: Path, name: str) -> dict[str, Any]:
    """One JSON object. Raises Problem `bad_model`."""
    path = root / name
    if path.stat().st_size > LONGEST.get(name, LONGEST_TEXT):
        raise bad(f"{name} is too long.")
    try:
        return plain.read_object(path.read_bytes())
    except ValueError as error:
        raise bad(f"{name} cannot be read: {error}.") from None


def write(path: Path, value: Mapping[str, Any]) -> None:
    """The same bytes for equal values."""
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False)
    path.write_text(f"{text}\n")


def _check_safetensors(root: Path) -> str:
    for name in (CONFIG, formats.SAFETENSORS):
        if not (root / name).exists():
            text = f"It has no {name}; a model has {CONFIG} and {formats.SAFETENSORS}, or is one ONNX file."
            raise bad(text)
    config = read(root, CONFIG)
    named, params = config.get("recipe"), config.get("params")
    if not isinstance(named, str) or not isinstance(params, dict):
        raise bad(f"{CONFIG} names no recipe and params.")
    recipe = recipes.get(named)
    try:
        recipe.validate(params)
    except Problem as problem:
        text = f"{CONFIG}: {problem.detail}"
        raise Problem("bad_params", text, errors=problem.errors) from None
    if not (root / SIGNATURE).exists():
        both = {"inputs": dict(recipe.inputs), "outputs": dict(recipe.outputs)}
        write(root / SIGNATURE, {**both, "examples": []})
    _check_signature(read(root, SIGNATURE), recipe)
    try:
        libraries(config)
        check_weights(root / formats.SAFETENSORS)
    except Problem as problem:
        raise bad(problem.detail) from None
    return named


def _check_onnx(root: Path) -> str:
    if (root / formats.SAFETENSORS).exists():
        raise bad("It holds both safetensors and ONNX; one of them is the model.")
    size = (root / formats.WEIGHTS[formats.ONNX]).stat().st_size
    if size > LONGEST_ONNX:
        text = f"An ONNX file has {LONGEST_ONNX:,} bytes at most."
        raise Problem("too_large", text)
    if not (root / CONFIG).exists():
        write(root / CONFIG, {"format": 1, "recipe": formats.ONNX, "params": {}})
    config = read(root, CONFIG)
    try:
        libraries(config)
    except Problem as problem:
        raise bad(problem.detail) from None
    if config.get("recipe") != formats.ONNX or config.get("params") != {}:
        text = f'{CONFIG} of an ONNX model says {{"recipe": "onnx", "params": {{}}}}, or is left out.'
        raise bad(text)
    return formats.ONNX


def _check_signature(signature: dict[str, Any], recipe: recipes.Recipe) -> None:
    own = {"inputs": dict(recipe.inputs), "outputs": dict(recipe.outputs)}
    for name in ("inputs", "outputs"):
        schema = signature.get(name)
        if not isinstance(schema, dict):
            raise bad(f"{SIGNATURE} has no {name}.")
        if schema == own[name]:
            continue
        try:
            schemas.check(schema)
        except ValueError as error:
            raise bad(f"{SIGNATURE}, {name}: {error}.") from None
        fields = own[name].get("properties") or schema.get("properties")
        for field in schema.get("required", ()):
            if fields and field not in fields:
                text = f"it requires {str(field)[:60]!r}, which the model does not have"
                raise bad(f"{SIGNATURE}, {name}: {text}.")


def _look_for_pickles(root: Path) -> None:
    for path in sorted(one for one in root.rglob("*") if one.is_file()):
        with path.open("rb") as file:
            kind = pickles.kind_of(file.read(pickles.HEAD))
        if kind:
            name = path.relative_to(root)
            text = f"{str(name)!r} is {kind}, which may run code when it is read; {INSTEAD}."
            raise Problem("unsafe_model", text)


def _flatten(root: Path) -> None:
    """Let the files of the one directory within stand above."""
    entries = list(root.iterdir())
    if len(entries) == 1 and entries[0].is_dir():
        inner = entries[0].rename(store.aside(".model"))
        root.rmdir()
        inner.rename(root)


def _check_names(root: Path) -> None:
    """Only what a model's directory has, and each what its name says."""
    for path in sorted(root.iterdir()):
        name = path.name
        if path.is_dir():
            raise bad(f"{name!r}: a directory; a model's files stand in one.")
        if not NAME.match(name):
            raise bad(f"{name[:100]!r}: no name for a file of a model.")
        if name == formats.WEIGHTS[formats.ONNX] or name in (
            CONFIG,
            SIGNATURE,
            METRICS,
        ):
            continue
        if path.suffix == ".safetensors":
            _check_extra_weights(path)
        elif path.suffix == ".json":
            read(root, name)
        else:
            text = f"{name!r}: a model has {CONFIG}, {SIGNATURE}, {METRICS} and its weights, as safetensors or ONNX"
            raise bad(f"{text}; nothing else is taken.")


def _check_extra_weights(path: Path) -> None:
    if path.name != formats.SAFETENSORS:
        try:
            check_weights(path)
        except Problem as problem:
            raise bad(problem.detail) from None
