"""Several addresses for one prediction: the next is asked where one cannot be served.

What a client did wrong is not made right by another model, so a bad item, a malformed address or a
prediction that failed is answered as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from registry.errors import Problem

CANNOT_BE_SERVED = frozenset(
    [
        "unknown_model",
        "model_unavailable",
        "model_too_large",
        "no_worker",
        "busy",
        "timeout",
        "database_unavailable",
    ]
)
FOR_NOW = 500  # from this HTTP status on a refusal may pass
MOST = 8  # addresses of one request

T = TypeVar("T")


class Reasons:
    """Why addresses were passed over, in order."""

    def __init__(self) -> None:
        self._found: list[tuple[str, Problem]] = []

    def add(self, address: str, problem: Problem) -> None:
        self._found.append((address, problem))

    def shown(self) -> list[dict[str, str]]:
        """`{model, code, detail}` of each."""
        return [{"model": one, **problem.as_dict()} for one, problem in self._found]

    def none_served(self) -> Problem:
        """What the client is told: the first refusal that may pass, else the first of all."""
        problems = [problem for _, problem in self._found]
        if len(problems) == 1:
            return problems[0]
        passing = [one for one in problems if one.status >= FOR_NOW]
        chosen = (passing or problems)[0]
        waits = [one.retry_after for one in passing if one.retry_after is not None]
        texts = [f"{address}: {problem.detail}" for address, problem in self._found]
        return Problem(
            chosen.code, " ".join(texts),
            errors={"model": texts}, retry_after=min(waits, default=None),
        )  # fmt: skip


def first_served(
    addresses: Sequence[str],
    serve: Callable[[str, float], T],
    *,
    timeout: float = 0.0,
    monotonic: Callable[[], float] = time.monotonic,
) -> tuple[T, list[dict[str, str]]]:
    """What `serve(address, seconds)` gives for the first that can be served, and who was passed over.

    Each may use an equal share of the seconds that are left. Raises Problem if none can be served,
    and whatever is no reason to ask the next.
    """
    end, reasons = monotonic() + timeout, Reasons()
    for number, address in enumerate(addresses):
        seconds = share(end - monotonic(), len(addresses) - number)
        try:
            return serve(address, seconds), reasons.shown()
        except Problem as problem:
            if problem.code not in CANNOT_BE_SERVED:
                raise
            reasons.add(address, problem)
    raise reasons.none_served()


def share(left: float, addresses: int) -> float:
    """The seconds for the next of so many addresses."""
    return max(0.0, left) / addresses


def listed(model: str | Sequence[str]) -> list[str]:
    """The addresses to try, each once."""
    return [model] if isinstance(model, str) else list(dict.fromkeys(model))


def answer_of(model: Any, fell_back: list[dict[str, str]]) -> dict[str, Any]:
    """What an answer says of those passed over: nothing where only one could be."""
    return {} if isinstance(model, str) or model is None else {"fell_back": fell_back}
