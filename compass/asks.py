"""The bodies of predictions that the raw lane reads; all others are Django's.

The items stay bytes. A body is the few names around them in plain JSON, so when a worker finds that
the items are a JSON list, the whole of it was what it seemed to be.
"""

from __future__ import annotations

import re

import orjson

from inference.fallback import MOST, listed

PLAIN = rb'"([A-Za-z0-9][A-Za-z0-9._-]{0,99}(?:[:@][A-Za-z0-9._-]{1,60})?)"'
S = rb"[ \t\r\n]*"
MODEL, INPUTS = rb'"model"' + S + b":" + S + PLAIN, rb'"inputs"' + S + b":" + S
ITEMS, END = rb"(\[.*\])", S + rb"\}" + S
MODEL_FIRST = re.compile(
    S + rb"\{" + S + MODEL + S + b"," + S + INPUTS + ITEMS + END, re.DOTALL
)
MODEL_LAST = re.compile(
    S + rb"\{" + S + INPUTS + ITEMS + S + b"," + S + MODEL + END, re.DOTALL
)
ADDRESS = PLAIN.replace(b"([", b"(?:[")
LIST = rb"\[%b%b(?:%b,%b%b){0,%d}%b\]" % (S, ADDRESS, S, S, ADDRESS, MOST - 1, S)
KEY = rb'"[ !#-\[\]-~]{1,200}"'
MODELS = rb'"model"%b:%b(?:%b|%b)' % (S, S, ADDRESS, LIST)
KEYED = rb'"key"%b:%b%b' % (S, S, KEY)
MAYBE_KEY, OR_KEY = rb"(?:%b%b,%b)?" % (KEYED, S, S), rb"(?:%b,%b%b)?" % (S, S, KEYED)
OTHERS = [
    re.compile(
        rb"%b\{%b(%b%b%b,%b%b)" % (S, S, MAYBE_KEY, MODELS, S, S, MAYBE_KEY)
        + INPUTS + ITEMS + rb"(%b)" % OR_KEY + END,
        re.DOTALL,
    ),
    re.compile(
        rb"%b\{%b(%b)" % (S, S, MAYBE_KEY)
        + INPUTS + ITEMS + rb"(%b%b,%b%b%b)" % (OR_KEY, S, S, MODELS, OR_KEY) + END,
        re.DOTALL,
    ),
]  # fmt: skip
ONE = re.compile(rb"%b|%b" % (MODELS, KEYED))

# Address, items, key, and all addresses where the model is a list of them.
Ask = tuple[str, bytes, str | None, list[str] | None]


def read(raw: bytes, at: int) -> Ask | None:
    """The body that begins there; None if the lane does not read such."""
    if match := MODEL_FIRST.fullmatch(raw, at):
        address, items = match.groups()
    elif match := MODEL_LAST.fullmatch(raw, at):
        items, address = match.groups()
    else:
        for other in OTHERS:
            if match := other.fullmatch(raw, at):
                return _read_members(*match.groups())
        return None
    return address.decode(), items, None, None


def _read_members(before: bytes, items: bytes, after: bytes) -> Ask | None:
    found = ONE.findall(before) + ONE.findall(after)
    members = orjson.loads(b"{%b}" % b",".join(found))
    if len(members) != len(found):
        return None
    model, key = members["model"], members.get("key")
    if isinstance(model, str):
        return model, items, key, None
    addresses = listed(model)
    return addresses[0], items, key, addresses
