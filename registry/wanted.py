"""What files a route takes in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings

from registry import sniff


@dataclass(frozen=True)
class Wanted:
    """The most bytes, and checks of the name and of the first bytes."""

    limit: Callable[[], int]
    check_name: Callable[[str], object]
    check_head: Callable[[str, bytes], object]


DATA = Wanted(
    lambda: settings.ENVIRONMENT.upload_limit, sniff.type_of, sniff.check_head
)
