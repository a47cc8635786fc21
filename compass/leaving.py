"""The end of a front: what came before it is answered, and no connection ends in the middle.

While it leaves, an answer is the last one of its connection and says so. Connections that nothing
comes by are closed after a grace in which a request that was on its way arrives.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compass.front import Front

GRACE = 0.2  # seconds for what is on its way
WITHIN = 5.0  # seconds for what is being answered
FLUSH = 0.5  # seconds for the last bytes to get out
TICK = 0.02  # seconds

SO_ATTACH_FILTER = 26
# For the kernel: load byte 13 of the TCP header; if it has SYN, take 0 bytes of it, else all.
NO_SYN = (
    (0x30, 0, 0, 13),
    (0x45, 0, 1, 0x02),
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 2**32 - 1),
)


async def leave(front: Front, server: asyncio.Server) -> None:
    """Let nobody in, and wait until everybody has gone, for a bounded time."""
    began, spent = time.monotonic(), 0.0
    for listening in server.sockets:
        _leave_unanswered(listening.fileno())
    while spent < 2 * TICK or (front.visitors and spent < WITHIN):
        await asyncio.sleep(TICK)
        spent = time.monotonic() - began
        if spent > GRACE:
            server.close()
            for visitor in list(front.visitors):
                if not visitor.is_busy:
                    visitor.close()
    server.close()
    for visitor in list(front.visitors):
        visitor.give_up()
    end = time.monotonic() + FLUSH
    while front.visitors and time.monotonic() < end:
        await asyncio.sleep(TICK)
    for visitor in list(front.visitors):
        visitor.close(at_once=True)


def _leave_unanswered(descriptor: int) -> None:
    """Let the kernel drop who would connect, so that nobody is connected when it is closed.

    A client tries again after a second, and finds the next life or is refused.
    """
    code = b"".join(struct.pack("HBBI", *one) for one in NO_SYN)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(NO_SYN), ctypes.addressof(buffer))
    try:
        with socket.socket(fileno=os.dup(descriptor)) as listening:
            listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
    except OSError:
        pass  # without it a few are reset
