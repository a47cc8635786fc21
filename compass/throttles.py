"""How often each key or address may ask: rates by kind of request and by route, held where the port is.

One process sees every request, so the counts are those of the whole server. A rate of N in a
period lets N through at once and then one each period / N (the generic cell rate algorithm of
ATM Forum TM 4.1, virtual scheduling).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from compass import heads
from compass.rates import Rule
from registry.models import ApiKey

SAFE = (b"GET", b"HEAD", b"OPTIONS")
ROOTS = ("/api/", "/jobs/")  # what `read` and `write` mean
KEYED = ("/api/v1/", "/jobs/")  # what only a valid key opens; elsewhere any would do
# A server takes an address with any scheme, and with letters beyond ASCII.
PATH = re.compile(rb"(?:[^:/?#]*+://[^/?#]*+)?([^?#]*+)")
FIELD = re.compile(
    rb"\n(authorization|x[-_]api[-_]key):[ \t]*+([^\r\n]*+)", re.IGNORECASE
)
READABLE = re.compile(rb"[\t -~]*+")  # other values are empty ones to Django
MOST = 10_000  # keys that are counted at once
KEPT = 1024  # heads, for a client sends the same one again and again


@dataclass(frozen=True)
class Refusal:
    rule: Rule
    wait: float  # seconds
    by: str  # key or address


class Throttles:
    """Counts of one process; without rules it lets everything through."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._paths = [rule for rule in rules if rule.name.startswith("/")]
        self._kinds = {rule.name: rule for rule in rules if rule not in self._paths}
        self._due: dict[tuple[str, str], float] = {}
        self._known: dict[tuple[bytes, str], tuple[Rule | None, str]] = {}

    def __bool__(self) -> bool:
        return bool(self._paths or self._kinds)

    def ask(self, head: bytes, address: str, now: float) -> Refusal | None:
        """Count the request with that plain head from that address, or refuse it."""
        rule, who = self._read(head, address)
        if rule is None:
            return None
        at = self._due.get((rule.name, who), 0.0)
        wait = at - now - rule.gap * (rule.number - 1)
        if wait > 1e-9:
            return Refusal(rule, wait, "address" if who == address else "key")
        self._count(rule, who, max(at, now) + rule.gap, now)
        return None

    def _count(self, rule: Rule, who: str, due: float, now: float) -> None:
        if len(self._due) >= MOST:
            # Those who owe least are forgotten: who invents keys gains nothing by it.
            ordered = sorted(self._due.items(), key=lambda one: one[1])
            self._due = dict(one for one in ordered[MOST // 2 :] if one[1] > now)
        self._due[rule.name, who] = due

    def _read(self, head: bytes, address: str) -> tuple[Rule | None, str]:
        known = self._known.get((head, address))
        if known is None:
            method, path = _asked(head)
            is_keyed = path.startswith(KEYED)
            who = _who(head, address) if is_keyed else address
            known = self._rule(method, path), who
            if len(self._known) >= KEPT:
                self._known.clear()
            if len(head) <= heads.MOST:
                self._known[head, address] = known
        return known

    def _rule(self, method: bytes, path: str) -> Rule | None:
        for rule in self._paths:
            if path == rule.name or path.startswith(f"{rule.name}/"):
                return rule
        if not path.startswith(ROOTS):
            return None
        return self._kinds.get("read" if method.upper() in SAFE else "write")


def _asked(head: bytes) -> tuple[bytes, str]:
    """The method, and the path as Django reads it."""
    method, target, _ = head.partition(b"\r\n")[0].split(b" ")
    found = PATH.match(target)
    return method, unquote(found[1].decode("latin-1")) if found else ""


def _who(head: bytes, address: str) -> str:
    """The digest of the key, found as `KeyAuthentication` finds it; without one, the address."""
    fields = {
        name.lower().replace(b"_", b"-"): value if READABLE.fullmatch(value) else b""
        for name, value in FIELD.findall(head)
    }
    scheme, _, secret = fields.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer":
        secret = fields.get(b"x-api-key", b"")
    secret = secret.strip()
    return ApiKey.digest(secret.decode()) if secret else address
