"""Every error that a user can meet: its code, HTTP status and title."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

CATALOGUE: dict[str, tuple[int, str]] = {
    "invalid": (422, "Some fields are not valid"),
    "malformed": (400, "The request could not be read"),
    "not_authenticated": (401, "A key is needed"),
    "invalid_key": (401, "This key is unknown, expired or revoked"),
    "forbidden": (403, "This key may not do that"),
    "not_found": (404, "Not there, or not yours"),
    "method_not_allowed": (405, "This address does not know that method"),
    "not_acceptable": (406, "No such format"),
    "timeout_body": (408, "The body did not come in time"),
    "wrong_state": (409, "The state does not allow that"),
    "conflict": (409, "It conflicts with what is there"),
    "length_required": (411, "The length must be given"),
    "too_large": (413, "Too large"),
    "unsupported_media_type": (415, "This type of content is not accepted"),
    "range_not_satisfiable": (416, "There is no such range"),
    "unknown_recipe": (422, "There is no such recipe"),
    "unknown_task": (422, "There is no such task"),
    "unknown_dataset": (422, "There is no such data set"),
    "dataset_not_ready": (409, "The data set is not sealed yet"),
    "unknown_model": (404, "There is no such model"),
    "no_model_fits": (422, "No model has a signature that fits the inputs"),
    "bad_data": (422, "The data cannot be used"),
    "bad_item": (422, "This item cannot be used"),
    "bad_params": (422, "The parameters do not fit"),
    "diverged": (422, "The training diverged"),
    "bad_archive": (422, "The archive is not safe or not whole"),
    "bad_model": (422, "The model cannot be used"),
    "unsafe_model": (422, "The model's files may run code"),
    "idempotency_key_reused": (422, "This idempotency key came with another request"),
    "too_many_items": (422, "Too many items in one request"),
    "resources_too_large": (422, "No node is that large"),
    "throttled": (429, "Too many requests"),
    "internal": (500, "Something went wrong here"),
    "busy": (503, "The server is busy"),
    "uploads_busy": (503, "All upload slots are taken"),
    "disk_full": (503, "The disk is full"),
    "broker_unavailable": (503, "The message broker does not answer"),
    "database_unavailable": (503, "The database does not answer"),
    "model_unavailable": (503, "The model cannot be served now"),
    "model_too_large": (507, "The model needs more memory than a worker may give it"),
    "no_worker": (503, "No worker is up for that"),
    "no_instance": (503, "No healthy instance of this service"),
    "timeout": (504, "No answer in time"),
}


AGAIN_AFTER = 5  # seconds until another try, where a 503 tells no other time


class Problem(Exception):
    """An error with a code of the catalogue and a sentence for the user.

    `errors` holds sentences by field; `retry_after` is in seconds.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Mapping[str, Sequence[str]] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail
        self.errors = {name: list(texts) for name, texts in (errors or {}).items()}
        self.retry_after = retry_after

    @property
    def status(self) -> int:
        return CATALOGUE[self.code][0]

    @property
    def title(self) -> str:
        return CATALOGUE[self.code][1]

    @property
    def wait(self) -> int | None:
        """The whole seconds of `Retry-After`, which each 503 has."""
        if self.retry_after is not None:
            return max(1, math.ceil(self.retry_after))
        return AGAIN_AFTER if self.status == 503 else None

    def as_dict(self) -> dict[str, Any]:
        """The short form that stands beside one item of many."""
        return {"code": self.code, "detail": self.detail}


class BadItem(Problem):
    """One item of a prediction cannot be used; its neighbours can."""

    def __init__(self, detail: str, *, code: str = "bad_item") -> None:
        super().__init__(code, detail)


class BadData(Problem):
    """A data set cannot be used; names the row (1 is the first after the header) and column."""

    def __init__(
        self, detail: str, *, row: int | None = None, column: str | None = None
    ) -> None:
        place = [f"row {row}"] if row is not None else []
        place += [f"column {column}"] if column is not None else []
        super().__init__("bad_data", ", ".join(place) + ": " * bool(place) + detail)
        self.row, self.column = row, column
