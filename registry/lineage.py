"""What is known of where a version came from, for its page."""

from __future__ import annotations

from typing import Any

from registry.models import ModelVersion

MOST = 50  # children


def told(version: ModelVersion) -> dict[str, Any]:
    """All of it, whether the version was trained here or imported."""
    stored, task = version.lineage, version.task
    after = version.model.versions.filter(
        lineage__parent__address=str(version), number__gt=version.number
    ).select_related("model")
    return {
        "version": str(version),
        "digest": version.digest,
        "weights_sha256": version.weights_sha256,
        "recipe": version.recipe,
        "params": version.params,
        "task": task
        and {
            "id": str(task.pk),
            "name": task.name,
            "state": task.state,
            "attempt": stored.get("attempt"),
            "href": f"/api/v1/tasks/{task.pk}",
        },
        "dataset": stored.get("dataset"),
        "seed": stored.get("seed"),
        "code": stored.get("code") or "",
        "versions": stored.get("versions") or {},
        "parent": stored.get("parent"),
        "children": [str(one) for one in after.order_by("number")[:MOST]],
        "origin": stored.get("origin"),
        "aliases": [alias.name for alias in version.aliases.all()],
        "owner": version.owner.get_username() if version.owner else None,
        "created_at": version.created_at,
    }
