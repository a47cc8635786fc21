"""Importing this makes the fake recipe known; the tests' launcher preloads it."""

from __future__ import annotations

from tests.fake_recipe import make_known

make_known()
