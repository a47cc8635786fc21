"""The loopback addresses by which the front reaches Django, one for each of its connections.

`compass.idle` tells the connections apart by them, and they say whether the client's own address is
one of those that may read `/metrics`, which Django does not see.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from ipaddress import IPv4Address, ip_address

from compass.env import Network

FAR, NEAR, END = (
    0x7F010000,
    0x7F400000,
    0x7F800000,
)  # 127.1.0.0, 127.64.0.0, 127.128.0.0

_far, _near = itertools.cycle(range(FAR, NEAR)), itertools.cycle(range(NEAR, END))


def own_address(*, is_near: bool) -> str:
    return str(IPv4Address(next(_near if is_near else _far)))


def is_near(address: str, networks: Sequence[Network]) -> bool:
    """Whether a client with that address is in one of the networks; the front's have their answer."""
    try:
        one = ip_address(address)
    except ValueError:
        return False
    if one.version == 4 and FAR <= int(one) < END:
        return int(one) >= NEAR
    if one.version == 6 and one.ipv4_mapped is not None:
        one = one.ipv4_mapped
    return any(one in network for network in networks)
