from __future__ import annotations

import datetime
import hashlib
import json
import secrets
from collections.abc import Iterable
from typing import Self

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connection, models
from django.db.models import Q

from registry import clock

SCOPES = ("read", "submit", "script", "predict", "registry", "admin")
PREFIX = "cmp_"
USE_NOTED_EVERY = datetime.timedelta(minutes=1)
# Asked at each request, so it is written out: to compile it costs more than to run it.
FIND = """
    SELECT k.last_used_at IS NULL OR k.last_used_at < %s, k.id, k.user_id, k.name,
           k.scopes, u.id, u.is_superuser, u.username, u.is_staff, u.is_active
    FROM registry_apikey k JOIN auth_user u ON u.id = k.user_id
    WHERE k.sha256 = %s AND k.revoked_at IS NULL AND u.is_active
      AND (k.expires_at IS NULL OR k.expires_at > %s)
"""
# In the order of the models.
KEY_FIELDS = ("id", "user_id", "name", "scopes")
USER_FIELDS = ("id", "is_superuser", "username", "is_staff", "is_active")


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def valid(self) -> Self:
        unexpired = Q(expires_at=None) | Q(expires_at__gt=clock.now())
        return self.filter(unexpired, revoked_at=None, user__is_active=True)


class ApiKey(models.Model):
    """A user's key; only its SHA-256 and a prefix that may be shown are kept."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_keys"
    )
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=16)
    sha256 = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}...)"

    @classmethod
    def make(
        cls,
        user: models.Model,
        name: str,
        scopes: Iterable[str] = SCOPES,
        **fields: object,
    ) -> tuple[ApiKey, str]:
        """A new row and the key itself, which is not kept and cannot be shown again."""
        secret = PREFIX + secrets.token_urlsafe(32)
        row = cls.objects.create(
            user=user,
            name=name,
            prefix=secret[:12],
            sha256=cls.digest(secret),
            scopes=sorted(set(scopes)),
            created_at=clock.now(),
            **fields,
        )
        return row, secret

    @classmethod
    def find(cls, secret: str) -> ApiKey | None:
        """The valid key with its user, and note that it was used, once a minute.

        Of both only what most requests need is loaded; the rest comes when it is read.
        """
        moment = clock.now()
        adapt = connection.ops.adapt_datetimefield_value
        values = [adapt(moment - USE_NOTED_EVERY), cls.digest(secret), adapt(moment)]
        with connection.cursor() as cursor:
            cursor.execute(FIND, values)
            row = cursor.fetchone()
        if row is None:
            return None
        is_due, number, owner, name, scopes, pk, root, username, staff, active = row
        found = cls.from_db(
            connection.alias, KEY_FIELDS, [number, owner, name, json.loads(scopes)]
        )
        user = [pk, bool(root), username, bool(staff), bool(active)]
        found.user = get_user_model().from_db(connection.alias, USER_FIELDS, user)
        if is_due:
            cls.objects.filter(pk=number).update(last_used_at=moment)
        return found

    @staticmethod
    def digest(secret: str) -> str:
        return hashlib.sha256(secret.encode()).hexdigest()


class IdempotencyKey(models.Model):
    """The first answer to a request that its sender may repeat."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    key = models.CharField(max_length=255)
    request = models.CharField(max_length=64)  # SHA-256 of method, path and body
    status = models.PositiveSmallIntegerField()
    headers = models.JSONField(default=dict)
    body = models.JSONField(null=True)
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "key"], name="idempotency_key_once_per_user"
            )
        ]

    def __str__(self) -> str:
        return self.key
