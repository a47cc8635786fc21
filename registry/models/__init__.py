"""The rows of the control plane; each table in a module of its own."""

from __future__ import annotations

from registry.models.attempt import Attempt
from registry.models.dependency import Condition, Dependency
from registry.models.event import TaskEvent
from registry.models.incident import Incident
from registry.models.key import ApiKey, IdempotencyKey
from registry.models.lane import Lane
from registry.models.limit import UserLimit
from registry.models.model_event import ModelEvent, PromotionRule
from registry.models.model_version import Alias, Model, ModelVersion
from registry.models.node import Node
from registry.models.pulse import Pulse
from registry.models.reservation import Reservation
from registry.models.second import Second
from registry.models.service import Service, ServiceEvent
from registry.models.task import Stale, Task
from registry.models.traffic import Traffic
from registry.models.upload import Upload
from registry.models.use import Use

__all__ = [
    "Alias",
    "ApiKey",
    "Attempt",
    "Condition",
    "Dependency",
    "IdempotencyKey",
    "Incident",
    "Lane",
    "Model",
    "ModelEvent",
    "ModelVersion",
    "Node",
    "PromotionRule",
    "Pulse",
    "Reservation",
    "Second",
    "Service",
    "ServiceEvent",
    "Stale",
    "Task",
    "TaskEvent",
    "Traffic",
    "Upload",
    "Use",
    "UserLimit",
]
