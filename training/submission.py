"""From what a user asks for to an accepted training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from registry import clock, recipes, sniff, store, submission, supply, uploads
from registry.errors import Problem
from registry.models import Task, Upload
from registry.placement.sizes import (
    asked_and_had,
    closest,
    could_hold,
    count,
    gib,
    lacking,
)
from registry.recipes import Recipe
from registry.resources import Resources
from registry.supply import Known
from training import data


def submit(user: Any, asked: Mapping[str, Any]) -> Task:
    """Accept a training whose every part was checked. Raises Problem with the fields."""
    recipe = recipes.get(asked["recipe"])
    params = recipe.validate(asked["params"])
    dataset = describe(user, asked["dataset"])
    recipes.load(recipe.check)(dataset["columns"], params)
    nodes = supply.known()
    lane = choose_lane(asked["lane"], nodes)
    needs = choose_resources(recipe, lane, asked.get("resources", {}))
    refuse_too_large(lane, needs, nodes)
    common = submission.common(user, asked)
    mode = getattr(params, "mode", None)
    return submission.accept(
        **{**common, "name": asked["name"] or f"{recipe.name} on {dataset['name']}"},
        kind="train",
        template=f"train {recipe.name} {mode or ''}".strip()[:120],
        lane=lane,
        cpus=needs.cpus,
        gpus=needs.gpus,
        memory=needs.memory,
        gpu_memory=needs.gpu_memory,
        params={
            "recipe": recipe.name,
            "params": params.model_dump(),
            "dataset": asked["dataset"],
            "dataset_name": dataset["name"],
            "dataset_sha256": dataset["sha256"],
            "model_name": asked.get("model_name", recipe.name),
        },
    )


def describe(user: Any, dataset: str) -> dict[str, Any]:
    """Name, sha256 and columns of a built-in data set or a sealed upload of the user's.

    Raises Problem `unknown_dataset`, `dataset_not_ready` or `bad_data`.
    """
    if dataset in data.BUILT_IN:
        known = data.BUILT_IN[dataset]
        return {
            "name": known.name,
            "sha256": store.lasting_sha256(known.path),
            "columns": list(known.columns),
        }
    upload = uploads.find_dataset(user, dataset)
    refuse_other_types(upload)
    return {"name": upload.name, "sha256": upload.sha256, "columns": upload.columns}


def refuse_other_types(upload: Upload) -> None:
    """Raise Problem `bad_data` for an upload that is no CSV file, as recipes read no other."""
    try:
        kind = sniff.type_of(upload.filename)
    except Problem:
        label = "of an unknown type"
    else:
        if kind.layout == "csv":
            return
        label = kind.label
    text = (
        f"The data set {upload.pk} ({upload.filename}) is {label}; "
        "trainings read CSV files (.csv or .csv.gz) only."
    )
    raise Problem("bad_data", text, errors={"dataset": [text]})


def choose_lane(asked: str, nodes: Sequence[Known]) -> str:
    """`auto` is the GPU lane where a node of it is up, else the CPU lane."""
    if asked != "auto":
        return asked
    with_gpus = [node for node in nodes if node.lane == "gpu"]
    if not with_gpus:
        return "cpu"
    moment = clock.now()
    return "gpu" if any(node.is_up(moment) for node in with_gpus) else "cpu"


def choose_resources(recipe: Recipe, lane: str, asked: Mapping[str, int]) -> Resources:
    default = recipe.resources
    gpus = asked.get("gpus", max(1, default.gpus) if lane == "gpu" else 0)
    if (gpus > 0) != (lane == "gpu"):
        text = "the lane gpu needs one GPU or more, and the lane cpu has none"
        raise Problem("invalid", text, errors={"resources.gpus": [text]})
    if asked.get("gpu_memory") and not gpus:
        text = "needs a GPU: ask for the lane gpu"
        raise Problem(
            "invalid",
            f"resources.gpu_memory: {text}.",
            errors={"resources.gpu_memory": [text]},
        )
    return Resources(
        asked.get("cpus", default.cpus),
        gpus,
        asked.get("memory", default.memory),
        asked.get("gpu_memory", default.gpu_memory),
    )


def refuse_too_large(lane: str, needs: Resources, nodes: Sequence[Known]) -> None:
    """Raise Problem `resources_too_large` if nodes are known and none could ever hold it.

    A node that is away counts: the task waits for it, and says so.
    """
    sizes = [node.size for node in nodes if node.lane == lane]
    if any(could_hold(size, needs) for size in sizes):
        return
    largest = closest(sizes, needs)
    if largest is None:
        return
    asked, _ = asked_and_had(lacking(largest, needs))
    top = largest.capacity
    gpus = count(top.gpus, "GPU")
    if each := max((gpu.memory for gpu in largest.gpus), default=0):
        gpus += f" of up to {gib(each)}"
    size = f"{count(top.cpus, 'CPU')}, {gpus} and {gib(top.memory)}"
    raise Problem(
        "resources_too_large",
        f"No {lane} node could ever hold {asked}; the largest for it, {largest.node}, "
        f"has {size}.",
        errors={"resources": [f"at most {size}"]},
    )
