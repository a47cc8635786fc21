"""Registers both models in the stack of COMPASS_DATA_DIR, and measures their engines.

With an argument they run on the engine of that name, whichever is the fastest.
"""

from __future__ import annotations

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "compass.settings")
django.setup()

from bench.serving import models  # noqa: E402
from inference import tuning  # noqa: E402
from registry import clock, publish, store  # noqa: E402
from registry.models import Model, ModelVersion  # noqa: E402


def main() -> None:
    for name in models.MODULES:
        directory = store.aside()
        models.write(name, directory)
        found = publish.prepare(directory)
        model, _ = Model.objects.get_or_create(
            name=name, defaults={"created_at": clock.now()}
        )
        version = model.register(
            digest=found.digest, weights_sha256=found.weights_sha256, size=found.size,
            recipe=found.recipe, params={}, metrics={}, signature=found.signature,
        )  # fmt: skip
        # Claimed first, so that no worker measures it at the same time.
        ModelVersion.objects.filter(pk=version.pk).update(tuning_at=clock.now())
        verdict = tuning.tune(version)
        for name in sys.argv[1:]:
            candidates = {one["name"]: one for one in verdict["candidates"]}
            verdict |= {"name": name, "sha256": candidates[name]["sha256"]}
            ModelVersion.objects.filter(pk=version.pk).update(engine=verdict)
        print(f"{version}: {verdict['name']}, batch {verdict['batch']}")


if __name__ == "__main__":
    main()
