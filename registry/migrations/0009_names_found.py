"""On PostgreSQL: how many tasks have a text in their names is known, and which they are."""

from __future__ import annotations

from typing import Any

from django.db import DatabaseError, migrations, transaction

# As Django writes `icontains`. Without these figures the planner takes any text for a rare one.
STATISTICS = "CREATE STATISTICS task_name_upper ON (UPPER(name)) FROM registry_task"
EXTENSION = "CREATE EXTENSION IF NOT EXISTS pg_trgm"
# A short list of what is still to be sorted in: no submit waits long for that.
INDEX = (
    "CREATE INDEX task_name_parts ON registry_task"
    " USING gin (UPPER(name) gin_trgm_ops) WITH (gin_pending_list_limit = 512)"  # kB
)


def find_names(apps: Any, schema_editor: Any) -> None:
    """Where the extension may not be made there is no index, and names are read one by one."""
    connection = schema_editor.connection
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute(STATISTICS)
        try:
            with transaction.atomic(using=connection.alias):
                cursor.execute(EXTENSION)
                cursor.execute(INDEX)
        except DatabaseError:
            pass
        cursor.execute("ANALYZE registry_task")


def forget_names(apps: Any, schema_editor: Any) -> None:
    """The extension stays; others may use it by now."""
    connection = schema_editor.connection
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX IF EXISTS task_name_parts")
        cursor.execute("DROP STATISTICS IF EXISTS task_name_upper")


class Migration(migrations.Migration):
    dependencies = [("registry", "0008_model_history")]

    operations = [migrations.RunPython(find_names, forget_names)]
