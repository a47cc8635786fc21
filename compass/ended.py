"""Connections whose other side writes no more: does it still read?"""

from __future__ import annotations

import os
import socket

TCP_CLOSE = 7  # Linux's state of a connection that was reset


def is_reset(descriptor: int) -> bool:
    """Whether the other side has answered by a reset, as one does that has closed entirely."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as link:
            state = link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    except OSError:
        return False  # no descriptor to be had at the moment, or no connection
    return state == TCP_CLOSE
