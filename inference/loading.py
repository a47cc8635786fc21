"""From a version's row to a model in memory, with its files verified."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
from functools import cache

from inference import engines
from inference.cache import Facts, Loaded
from inference.standby import ONE_THREAD
from registry import formats, recipes, store
from registry.errors import Problem
from registry.models import ModelVersion

log = logging.getLogger(__name__)

_ready = threading.local()


def look(version: int) -> Facts | None:
    """What the database says of the version; None if it has it no more."""
    row = ModelVersion.objects.select_related("model").filter(pk=version).first()
    if row is None:
        return None
    inputs, engine = row.signature.get("inputs") or {}, row.engine or {}
    return Facts(
        row.pk, str(row), row.recipe, row.digest, row.size, inputs,
        engine.get("name", engines.EAGER), engine.get("sha256", ""), engine.get("batch") or 0,
        engines.bulk(engine),
    )  # fmt: skip


def load(facts: Facts) -> Loaded:
    """The model, after its files were compared to the registered digest.

    Raises Problem `model_unavailable`; no sentence of it names a path.
    """
    directory = store.model_path(facts.digest)
    try:
        digest = store.directory_digest(directory)
    except OSError as error:
        log.error("The files of %s cannot be read: %s", facts.address, error)
        text = f"The files of the model {facts.address} cannot be read."
        raise Problem("model_unavailable", text) from error
    if digest != facts.digest:
        log.error("%s of %s has the digest %s", directory, facts.address, digest)
        text = f"The files of the model {facts.address} are not those that were registered."
        raise Problem("model_unavailable", text)
    try:
        predictor = recipes.load(formats.predictor(facts.recipe))
        light = engines.load_without_torch(predictor, directory, facts)
        if light is not None:
            return light
        uses_torch = getattr(predictor, "uses_torch", True)
        if uses_torch:
            use_one_thread()
            leave_torch_out_of_garbage()
        where = device() if uses_torch else "cpu"
        model: Loaded = predictor.load(directory, where)
    except Exception as error:
        log.exception("The model %s cannot be loaded", facts.address)
        text = f"The model {facts.address} cannot be loaded; the worker's log says why."
        raise Problem("model_unavailable", text) from error
    return engines.mount(model, facts)


def device() -> str:
    """The GPU if this worker sees one, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def hold_libraries_to_one_thread() -> None:
    """Those that are imported from now on: numpy reads this only then."""
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")


def use_one_thread() -> None:
    """One intra-op thread: on a busy host more only cost each other time.

    OpenMP keeps the number per thread, so each thread that computes calls this.
    """
    if not getattr(_ready, "is_set", False):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        import torch

        torch.set_num_threads(1)
        _ready.is_set = True


@cache
def leave_torch_out_of_garbage() -> None:
    """Once torch is there: a search through all of it for garbage holds up every answer."""
    import torch  # noqa: F401

    gc.collect()
    gc.freeze()


def free_device_memory() -> None:
    """Give what evicted models held on the GPU back to it."""
    if "torch" not in sys.modules:
        return
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
