"""The lane is measured with what a visitor asks of its front and of its connection."""

from __future__ import annotations

import asyncio

from bench import lane


def test_every_request_has_its_answer() -> None:
    assert asyncio.run(lane.measure(2, 20)) > 0
