"""A prediction of the raw lane, from its request to its answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from compass.chain import Chain
from compass.heads import Head
from inference.requests import Request
from inference.routes import Found

if TYPE_CHECKING:
    from compass.visitor import Visitor
    from inference.lane import Lane


class Asked:
    """A prediction that one visitor waits for."""

    __slots__ = ("began", "chain", "head", "raw", "request", "visitor")

    def __init__(self, visitor: Visitor, head: Head, raw: bytes) -> None:
        self.visitor: Visitor | None = visitor
        self.head, self.raw, self.began = head, raw, time.monotonic()
        self.request: Request | None = None
        self.chain: Chain | None = None

    def ask(self, lane: Lane) -> None:
        if self.chain is not None:
            self.chain.ask()
        elif self.request is not None:
            lane.ask(self.request)

    def end(self, status: int, content: bytes, found: Found | None) -> None:
        if self.visitor is not None:
            self.visitor.answered(self, status, content, found)

    def leave(self) -> None:
        """Nobody waits any more; what is still in line is not computed."""
        self.visitor = None
        if self.request is not None:
            self.request.is_gone = True
