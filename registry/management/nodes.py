"""What the commands about nodes have in common."""

from __future__ import annotations

from registry.management.output import Failed
from registry.models import Node


def node_of(name: str) -> Node:
    """The node of that name. Raises Failed."""
    node = Node.objects.filter(name=name).first()
    if node is None:
        known = ", ".join(Node.objects.values_list("name", flat=True)[:20])
        raise Failed(f"There is no node {name!r}; there are {known or 'none'}.")
    return node
