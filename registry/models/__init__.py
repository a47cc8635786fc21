"""The rows of the control plane; each table in a module of its own."""

from __future__ import annotations

from registry.models.attempt import Attempt
from registry.models.event import TaskEvent
from registry.models.key import ApiKey, IdempotencyKey
from registry.models.model_version import Alias, Model, ModelVersion
from registry.models.node import Node
from registry.models.pulse import Pulse
from registry.models.service import Service, ServiceEvent
from registry.models.task import Stale, Task
from registry.models.upload import Upload

__all__ = [
    "Alias",
    "ApiKey",
    "Attempt",
    "IdempotencyKey",
    "Model",
    "ModelVersion",
    "Node",
    "Pulse",
    "Service",
    "ServiceEvent",
    "Stale",
    "Task",
    "TaskEvent",
    "Upload",
]
