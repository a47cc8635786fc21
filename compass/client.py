"""The client library: `Compass(url, key).train(...).wait()`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from compass.calls import Calls, CompassError
from compass.registration import Registration
from compass.remote import POLL, Task

__all__ = ["Compass", "CompassError", "Task"]


class Compass(Calls):
    """One Compass and one key of it.

    Without arguments: COMPASS_URL (or REGISTRY_URL) and COMPASS_KEY, else the stack of this
    machine. Calls are repeated while the server is away or busy, for at most `patience`
    seconds; what creates something carries an idempotency key, so it is made once.
    Connections are kept and used again, by any number of threads.
    """

    def upload(
        self, path: str | Path, *, name: str = "", timeout: float = 600.0
    ) -> dict[str, Any]:
        """Send a file and wait until it is sealed. Raises CompassError if it is refused."""
        path = Path(path)
        filename = quote(path.name)
        headers = {
            "Content-Disposition": f"attachment; filename*=UTF-8''{filename}",
            "Content-Type": "application/octet-stream",
        }
        query = {"name": name} if name else {}
        row = self.request(
            "POST",
            "uploads",
            file=path,
            headers=headers,
            params=query,
        )
        deadline = time.monotonic() + timeout
        while row["state"] in ("receiving", "sealing"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"Upload {row['id']} is still {row['state']}.")
            time.sleep(POLL)
            row = self.get(f"uploads/{row['id']}")
        if row["state"] != "sealed":
            raise CompassError(422, {"code": row["reason"], "detail": row["message"]})
        return row

    def train(
        self,
        recipe: str,
        dataset: str | int | Mapping[str, Any],
        params: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Task:
        """Queue a training; `dataset` is an upload, its id, or a built-in name.

        Fields as in `POST /training/tasks`: `priority`, `time_limit`, `depends_on` (ids or
        tasks, or lists of them by condition), ...
        """
        chosen = dataset["id"] if isinstance(dataset, Mapping) else dataset
        body = {"recipe": recipe, "dataset": str(chosen), "params": dict(params or {})}
        return Task(self, self.post("training/tasks", {**body, **_with_ids(fields)}))

    def submit_script(
        self,
        script: str | Path,
        *,
        files: Mapping[str, str | int | Mapping[str, Any]] | None = None,
        **fields: Any,
    ) -> Task:
        """Queue a script of bash, given as text or as the path of a file; fields as in `POST /scripts`.

        `files` are uploads, or their ids, by the names that the script finds them under.
        """
        text = script.read_text() if isinstance(script, Path) else script
        chosen = {
            name: str(one["id"] if isinstance(one, Mapping) else one)
            for name, one in (files or {}).items()
        }
        body = {"script": text, "files": chosen, **_with_ids(fields)}
        return Task(self, self.post("scripts", body))

    def task(self, task_id: str | int) -> Task:
        return Task(self, self.get(f"tasks/{task_id}"))

    def tasks(self, **filters: Any) -> list[Task]:
        """The newest tasks, one page; filters as in `GET /tasks`."""
        return [Task(self, row) for row in self.get("tasks", **filters)["results"]]

    def wait(self, task_id: str | int, timeout: float | None = None) -> Task:
        return self.task(task_id).wait(timeout)

    def logs(self, task_id: str | int, offset: int = 0) -> dict[str, Any]:
        return self.get(f"tasks/{task_id}/logs", offset=offset)

    def cancel(self, task_id: str | int) -> Task:
        return Task(self, self.post(f"tasks/{task_id}/cancel"))

    def retry(self, task_ids: Sequence[str | int] = (), **filters: Any) -> Any:
        """Begin failed or cancelled tasks again, by id or by `state`, `reason`, ...

        `{done, refused, more}`; at most 1,000 at a time.
        """
        return self.post("tasks/retry", _which(task_ids, filters))

    def purge(self, task_ids: Sequence[str | int] = (), **filters: Any) -> Any:
        """Remove tasks that have ended, with their files; as `retry`."""
        return self.post("tasks/purge", _which(task_ids, filters))

    def lanes(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.get("lanes")["results"]
        return rows

    def limits(self) -> dict[str, Any]:
        """What you may hold at a time, what you hold, and what you had lately."""
        return self.get("limits/me")

    def predict(
        self,
        inputs: Sequence[Any],
        model: str | Sequence[str] | None = None,
        *,
        key: str | None = None,
    ) -> dict[str, Any]:
        """`{model, version, outputs, took}`; a bad item has `error` in its output.

        Without a model the newest that fits answers; of several the first that can be served, and
        `fell_back` says why others did not. Calls with the same `key` are answered by the same
        side of an alias's split.
        """
        if isinstance(inputs, Mapping | str):
            raise TypeError("inputs must be a list of items.")
        body: dict[str, Any] = {"inputs": list(inputs)}
        if model not in (None, ""):
            body["model"] = model if isinstance(model, str) else list(model)
        if key is not None:
            body["key"] = key
        return self.request("POST", "inference/predict", json=body, is_pure=True)

    def batch(self, *, wait: int = 30, **body: Any) -> dict[str, Any]:
        """The results, or the task if they take longer than `wait` seconds."""
        headers = {"Prefer": f"wait={wait}"}
        return self.request("POST", "inference/batch", json=body, headers=headers)

    def preload(
        self, model: str, *, pin: bool = False, wait: int | None = None
    ) -> list[dict[str, Any]]:
        """How the loading went on each inference worker: `{worker, outcome, seconds}`."""
        body: dict[str, Any] = {"model": model, "pin": pin}
        if wait is not None:
            body["wait"] = wait
        return list(self._tell("preload", body))

    def evict(self, model: str) -> list[dict[str, Any]]:
        """Unpin a model and let it go where it is idle; how that went on each worker."""
        return list(self._tell("evict", {"model": model}))

    def _tell(self, name: str, body: Mapping[str, Any]) -> Any:
        limit = httpx.Timeout(60.0 + body.get("wait", 0), connect=5.0)
        return self.request(
            "POST", f"inference/{name}", json=dict(body), timeout=limit, is_pure=True
        )["workers"]

    def models(self, **filters: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.get("models", **filters)["results"]
        return rows

    def register_service(
        self, service_name: str, host: str, port: int, **fields: Any
    ) -> Registration:
        """Register a service and keep it registered until closed or this process ends."""
        body = {"service_name": service_name, "host": host, "port": port, **fields}
        return Registration(self, body)


def _which(ids: Sequence[str | int], filters: Mapping[str, Any]) -> dict[str, Any]:
    if ids:
        return {"ids": [str(one) for one in ids]}
    return {"filter": dict(filters)}


def _with_ids(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields, with ids for the tasks that it depends on."""
    wanted = fields.get("depends_on")
    if wanted is None:
        return dict(fields)
    by_condition = wanted if isinstance(wanted, dict) else {"afterok": wanted}
    ids = {
        condition: [
            str(one["id"] if isinstance(one, Mapping) else one) for one in tasks
        ]
        for condition, tasks in by_condition.items()
    }
    return {**fields, "depends_on": ids}
