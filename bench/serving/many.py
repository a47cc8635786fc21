"""Registers many models of one shape and other weights in the stack of COMPASS_DATA_DIR.

    python -m bench.serving.many COUNT

They are named m0, m1, ... and run as eager torch.
"""

from __future__ import annotations

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "compass.settings")
django.setup()

from bench.serving import models  # noqa: E402
from registry import clock, publish, store  # noqa: E402
from registry.models import Model  # noqa: E402

ENGINE = {"name": "eager", "batch": 64, "bulk": 64, "sha256": "", "candidates": []}


def main() -> None:
    for number in range(int(sys.argv[1])):
        directory = store.aside()
        models.write("tiny", directory, seed=number)
        found = publish.prepare(directory)
        model = Model.objects.create(name=f"m{number}", created_at=clock.now())
        model.register(
            digest=found.digest, weights_sha256=found.weights_sha256, size=found.size,
            recipe=found.recipe, params={}, metrics={}, signature=found.signature,
            engine=ENGINE,
        )  # fmt: skip


if __name__ == "__main__":
    main()
