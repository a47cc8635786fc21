"""A task as the client library holds it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from compass.client import Compass

FINAL = ("completed", "failed", "cancelled")
POLL = 0.3  # seconds between looks at a task


class Task(Mapping[str, Any]):
    """A task as the server last showed it; read its fields like a dictionary's."""

    def __init__(self, client: Compass, fields: Mapping[str, Any]) -> None:
        self._client, self._fields = client, dict(fields)

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"<Task {self.id} {self['kind']} {self.state}>"

    @property
    def id(self) -> str:
        return str(self["id"])

    @property
    def state(self) -> str:
        return str(self["state"])

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    def refresh(self) -> Self:
        self._fields = self._client.get(f"tasks/{self.id}")
        return self

    def wait(
        self,
        timeout: float | None = None,
        on_look: Callable[[Task], None] = lambda task: None,
    ) -> Self:
        """Wait until it has ended. Raises TimeoutError after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.refresh().is_final:
            on_look(self)
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"Task {self.id} is still {self.state}.")
            time.sleep(POLL)
        on_look(self)
        return self

    def logs(self, offset: int = 0) -> dict[str, Any]:
        """Its output from a byte offset on: `{text, offset, next_offset, size, complete}`."""
        return self._client.get(f"tasks/{self.id}/logs", offset=offset)

    def cancel(self) -> Self:
        return self._ask("cancel")

    def pause(self) -> Self:
        return self._ask("pause")

    def resume(self) -> Self:
        return self._ask("resume")

    def retry(self, *, start_over: bool = False) -> Self:
        """Begin it again, from its checkpoint if it has one."""
        return self._ask("retry", {"from": "start" if start_over else "checkpoint"})

    def change(self, **fields: Any) -> Self:
        """Set its name, description, tags or priority."""
        path = f"tasks/{self.id}"
        self._fields = self._client.request("PATCH", path, json=fields)
        return self

    def delete(self) -> None:
        """Remove it, if it has ended, with its files."""
        self._client.request("DELETE", f"tasks/{self.id}")

    def _ask(self, verb: str, body: Mapping[str, Any] | None = None) -> Self:
        self._fields = self._client.post(f"tasks/{self.id}/{verb}", body)
        return self
