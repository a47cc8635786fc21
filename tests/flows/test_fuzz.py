"""Whatever the schema allows, and much that it does not: never a 500."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.contrib.auth.models import User
from django.core.handlers.wsgi import WSGIHandler
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi import checks

from compass.bodies import Patient
from registry.models import ApiKey
from tests.conftest import make_node

# Not the checks of what must be refused: the schema is looser than the recipes' own.
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
# Not compass.wsgi: a web process counts and looks after its calls in threads of its own.
application = Patient(WSGIHandler())
schema = schemathesis.openapi.from_wsgi("/api/schema", application)


@pytest.fixture
def key(transactional_db: None) -> Iterator[str]:
    admin = User.objects.create_superuser("fuzz", password="fuzz")
    make_node()
    return ApiKey.make(admin, "fuzz")[1]


@schema.parametrize()
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_request_is_answered_by_a_500(case: Any, key: str) -> None:
    response = case.call_and_validate(
        headers={"Authorization": f"Bearer {key}"},
        checks=CHECKS,
    )
    assert response.status_code < 500 or response.status_code in (503, 504), (
        response.text
    )
    if response.status_code >= 400:
        assert response.headers["content-type"][0] == "application/problem+json"
        assert response.json()["code"]
