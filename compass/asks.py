"""The bodies of predictions that the raw lane reads; all others are Django's.

The items stay bytes: only what stands before and behind them is looked at. That is a few names in
plain JSON, so when a worker finds that the items are a JSON list, the whole body was what it seemed
to be.
"""

from __future__ import annotations

import re

import orjson

from inference.fallback import MOST, listed

TAIL = 4096  # bytes in which the items must end
# Never given back, so that no body makes the search long.
S = rb"[ \t\r\n]*+"
NAME = rb"[A-Za-z0-9][A-Za-z0-9._-]{0,99}(?:[:@][A-Za-z0-9._-]{1,60})?"
ADDRESS = rb'"%b"' % NAME
LIST = rb"\[%b%b(?:%b,%b%b){0,%d}%b\]" % (S, ADDRESS, S, S, ADDRESS, MOST - 1, S)
MODEL = rb'"model"%b:%b(?:%b|%b)' % (S, S, ADDRESS, LIST)
KEY = rb'"key"%b:%b"[ !#-\[\]-~]{1,200}"' % (S, S)
MEMBER = rb"(?:%b|%b)" % (MODEL, KEY)
INPUTS = rb'"inputs"%b:%b(?=\[)' % (S, S)
PLAIN = re.compile(
    rb'%b\{%b"model"%b:%b"(%b)"%b,%b%b' % (S, S, S, S, NAME, S, S, INPUTS)
)
BEFORE = re.compile(rb"%b\{%b((?:%b%b,%b){0,2})%b" % (S, S, MEMBER, S, S, INPUTS))
BEHIND = re.compile(rb"\]((?:%b,%b%b){0,2})%b\}%b\Z" % (S, S, MEMBER, S, S))
ONE = re.compile(MEMBER)

# Address, items, key, and all addresses where the model is a list of them.
Ask = tuple[str, bytes, str | None, list[str] | None]


def read(raw: bytes, at: int) -> Ask | None:
    """The body that begins there; None if the lane does not read such."""
    if raw.endswith(b"]}") and (plain := PLAIN.match(raw, at)):
        return plain[1].decode(), raw[plain.end() : -1], None, None
    before = BEFORE.match(raw, at)
    if before is None:
        return None
    start = before.end()
    behind = BEHIND.search(raw, max(start, len(raw) - TAIL))
    if behind is None:
        return None
    items = raw[start : behind.start() + 1]
    return _read_members(ONE.findall(before[1]) + ONE.findall(behind[1]), items)


def _read_members(found: list[bytes], items: bytes) -> Ask | None:
    members = orjson.loads(b"{%b}" % b",".join(found))
    if len(members) != len(found) or "model" not in members:
        return None
    model, key = members["model"], members.get("key")
    if isinstance(model, str):
        return model, items, key, None
    addresses = listed(model)
    return addresses[0], items, key, addresses
