from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.run import standing
from tests.chaos.watched import Watched


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Watched]]:
    """Starts a real stack, with a second node if asked; it is stopped, and leaves no process."""
    with ExitStack() as cleanup:

        def begin(*, second: bool = False, port: int = 18_150) -> Watched:
            stack, _ = cleanup.enter_context(
                standing(tmp_path, "embedded", port, small=False)
            )
            cleanup.callback(stack.close)
            stack.start(second=second)
            stacks.append(stack)
            return Watched(stack)

        stacks = []  # type: ignore[var-annotated]
        yield begin
    for stack in stacks:
        assert stack.leftovers() == []
