"""What comes by a client's connection: read no further ahead than its answers are."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compass.tunnel import Tunnel

MOST_EARLY = 64 * 1024  # bytes read ahead of an answer


class Reader(asyncio.Protocol):
    """A connection whose reading stops, and so its client's writing, until what came is taken."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.tunnel: Tunnel | None = None
        self.since = 0.0  # when what is in `early` began to come
        self._early = b""
        self._is_paused = False
        self._is_full = False  # the client does not read its answers

    @property
    def has_more(self) -> bool:
        """Whether more has come than what is asked now."""
        return bool(self._early)

    @property
    def _is_held(self) -> bool:
        """Whether what comes has to wait."""
        raise NotImplementedError

    def go_on(self) -> None:
        """The connection is free for the next request."""
        raise NotImplementedError

    def pause_reading(self) -> None:
        if self.transport is not None and not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.transport is not None and self._is_paused:
            self._is_paused = False
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        self._is_full = True
        if self.tunnel is not None and self.tunnel.transport is not None:
            self.tunnel.transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_full = False
        if self.tunnel is not None and self.tunnel.transport is not None:
            self.tunnel.transport.resume_reading()
        if not self._is_held:
            self.go_on()

    def close(self, *, at_once: bool = False) -> None:
        if self.transport is not None:
            self.transport.abort() if at_once else self.transport.close()
