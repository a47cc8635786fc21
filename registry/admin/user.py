"""Users and groups: Django's own pages, guarded."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User

from registry.admin.guard import Guarded

admin.site.unregister((User, Group))


@admin.register(User)
class UserPage(Guarded, UserAdmin):  # type: ignore[type-arg]
    pass


@admin.register(Group)
class GroupPage(Guarded, GroupAdmin):
    pass
