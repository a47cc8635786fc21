"""From an address to the version that answers it: aliases may split, or mirror to a second one."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from functools import cached_property

from registry.addresses import parse, resolve
from registry.models import Alias, ModelVersion, Second

# What a worker counts a prediction under: the row of the alias's second version, and the version
# that its answers are compared with, or 0.
Watch = tuple[int, int]


@dataclass(frozen=True)
class Found:
    """The version that an address means now; `batch` is its best number of items, or 0.

    Of a split, `second` answers the `weight` of all requests, from 0 to 1; `salt` is the alias.
    """

    version: int
    model: str
    number: int
    batch: int
    watch: Watch | None = None
    second: Found | None = None
    weight: float = 0.0
    salt: str = ""

    @cached_property
    def head(self) -> bytes:
        """How an answer by it begins, up to the outputs."""
        return b'{"model":"%b","version":%d,"outputs":' % (
            self.model.encode(), self.number,
        )  # fmt: skip

    def side(self, drawn: float) -> Found:
        return self.second if self.second and drawn < self.weight else self


def find(address: str) -> Found:
    """What the address means now. Raises Problem as `resolve` does."""
    match = parse(address)
    if match["alias"] is not None:
        rows = Alias.objects.select_related("version__model", "second__version__model")
        row = rows.filter(model__name=match["name"], name=match["alias"]).first()
        if row is not None and (second := getattr(row, "second", None)) is not None:
            return _with_second(row, second)
    return of_version(resolve(address))


def find_for(address: str, key: str | None) -> Found:
    """The one version that answers a request with that key. Raises Problem."""
    found = find(address)
    return found.side(draw(found, key)) if found.second else found


def draw(found: Found, key: str | None) -> float:
    """A number from 0 to 1: the same for the same key of an alias, without a key a random one."""
    if key is None:
        return random.random()  # noqa: S311  (no secret)
    content = f"{found.salt}\0{key}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.sha256(content).digest()[:7]) / 2**56


def of_version(row: ModelVersion, watch: Watch | None = None) -> Found:
    batch = (row.engine or {}).get("batch") or 0
    return Found(row.pk, row.model.name, row.number, batch, watch)


def _with_second(alias: Alias, row: Second) -> Found:
    first = alias.version
    if row.weight is None:
        return of_version(first, (row.pk, row.version_id))
    watch = (row.pk, 0)
    one, two = of_version(first, watch), of_version(row.version, watch)
    return Found(
        one.version, one.model, one.number, one.batch, watch, two, row.weight, str(alias)
    )  # fmt: skip
