"""The heads of requests that the raw lane reads; all others are Django's."""

from __future__ import annotations

import re
from dataclasses import dataclass

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from compass.middleware import SANE
from registry.models import ApiKey

LINE = b"POST /api/v1/inference/predict HTTP/1.1\r\n"
MOST = 8 * 1024  # bytes of a head
MOST_FIELDS = 64  # Django's server refuses heads of more than a hundred
KEPT = 4096  # heads, for a client sends the same one again and again
MOST_BODY = 4 * 1024**2  # bytes; larger ones are read by Django
FIELD = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?)?[ \t]*"
)
REQUEST_ID = re.compile(rb"\r\nx-request-id:([^\r\n]*+)", re.IGNORECASE)
TYPE = re.compile(rb"application/json(?:;\s*charset=\"?utf-8\"?)?", re.IGNORECASE)
# Django indents its JSON for who accepts it so.
ACCEPT = re.compile(
    rb"(?!.*indent)(?:\*/\*|application/json|application/\*)(?:\s*[,;].*)?",
    re.IGNORECASE,
)
# Fields that change nothing of the answer; any other one of these names is Django's matter.
ODD = frozenset(
    b"transfer-encoding expect upgrade content-encoding cookie te trailer "
    b"x-http-method-override range idempotency-key".split()
)


@dataclass(frozen=True, slots=True)
class Head:
    """What the lane needs of a head: the body's length, the key's digest, and how to end."""

    length: int
    digest: str
    request_id: str
    keeps_alive: bool


_known: dict[bytes, Head | None] = {}


def read(head: bytes) -> Head | None:
    """The head, without the empty line at its end; None if the lane does not read such."""
    try:
        return _known[head]
    except KeyError:
        pass
    found = _read(head)
    if len(_known) >= KEPT:
        _known.clear()
    _known[head] = found
    return found


def request_id(head: bytes) -> str:
    """The client's own id of the request, if it is sane."""
    return sane_id(REQUEST_ID.findall(head))


def sane_id(found: list[bytes]) -> str:
    """What a request's fields of that name say, if it is one sane id."""
    theirs = found[0].strip().decode("latin-1") if len(found) == 1 else ""
    return theirs if SANE.match(theirs) else ""


def _read(head: bytes) -> Head | None:
    fields: dict[bytes, bytes] = {}
    for line in head[len(LINE) :].split(b"\r\n"):
        match = FIELD.fullmatch(line)
        if match is None:
            return None
        name, value = match[1].lower(), match[2] or b""
        if name in ODD or name in fields or b"_" in name:
            return None
        fields[name] = value
    if len(fields) > MOST_FIELDS:
        return None
    length = fields.get(b"content-length", b"")
    if not length.isdigit() or not 0 < int(length[:9]) <= MOST_BODY or len(length) > 9:
        return None
    if not TYPE.fullmatch(fields.get(b"content-type", b"")):
        return None
    if not ACCEPT.fullmatch(fields.get(b"accept", b"*/*")):
        return None
    connection = fields.get(b"connection", b"keep-alive").lower()
    secret = _secret(fields)
    if connection not in (b"keep-alive", b"close") or not secret:
        return None
    if not _is_ours(fields.get(b"host", b"").decode()):
        return None
    theirs = fields.get(b"x-request-id", b"").decode()
    return Head(
        int(length),
        ApiKey.digest(secret),
        theirs if SANE.match(theirs) else "",
        connection == b"keep-alive",
    )


def _secret(fields: dict[bytes, bytes]) -> str:
    """The key, found as `KeyAuthentication` finds it."""
    scheme, _, secret = fields.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer":
        secret = fields.get(b"x-api-key", b"")
    return secret.strip().decode()


def _is_ours(host: str) -> bool:
    domain, _ = split_domain_port(host)
    return bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)
