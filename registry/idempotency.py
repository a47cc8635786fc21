"""A request that its sender may repeat: the second one gets the first one's answer."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable
from typing import Any

from django.db import IntegrityError, transaction
from rest_framework.request import Request
from rest_framework.response import Response

from registry import clock
from registry.errors import Problem
from registry.models import IdempotencyKey

KEPT = datetime.timedelta(days=2)
LONGEST = 255  # characters


def once(
    request: Request, make: Callable[[], Response], *, body: Any = None
) -> Response:
    """Answer by `make`, or as before if this user's Idempotency-Key was seen.

    What `make` writes and the key are one transaction: an error keeps neither. `body` is what tells
    two requests apart; default the parsed body. Raises Problem `idempotency_key_reused`.
    """
    # Before the transaction: a body that comes slowly would hold SQLite's one write lock.
    told = request.data if body is None else body
    key = request.headers.get("Idempotency-Key")
    if key is None:
        with transaction.atomic():
            return make()
    if not 0 < len(key) <= LONGEST or not key.isprintable():
        text = f"1 to {LONGEST} printable characters are allowed"
        raise Problem("invalid", text, errors={"Idempotency-Key": [text]})
    digest = _digest(request, told)
    if answer := _earlier(request, key, digest):
        return answer
    user: Any = request.user
    try:
        with transaction.atomic():
            row = IdempotencyKey.objects.create(
                user=user,
                key=key,
                request=digest,
                status=0,
                created_at=clock.now(),
            )
            response = make()
            row.status, row.body = response.status_code, response.data
            row.headers = {
                name: response[name] for name in ("Location",) if name in response
            }
            row.save()
        return response
    except IntegrityError:
        # Another request with this key was quicker; its transaction is over now.
        answer = _earlier(request, key, digest)
        if answer is None:
            raise
        return answer


def _earlier(request: Request, key: str, digest: str) -> Response | None:
    user: Any = request.user
    row = IdempotencyKey.objects.filter(user=user, key=key).first()
    if row is None:
        return None
    if row.request != digest:
        raise Problem(
            "idempotency_key_reused",
            "This Idempotency-Key came before with another request.",
        )
    response = Response(row.body, row.status, headers=row.headers)
    response["Idempotent-Replay"] = "true"
    return response


def _digest(request: Request, body: Any) -> str:
    told = json.dumps([request.method, request.path, body], sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()
