"""Compass's settings for tests: a data directory of their own and no broker."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from tests import postgres

# Removed at the end of this process alone: a forked child inherits the exit hook.
_folder, _owner = tempfile.mkdtemp(prefix="compass-test-"), os.getpid()
atexit.register(
    lambda: os.getpid() == _owner and shutil.rmtree(_folder, ignore_errors=True)
)
os.environ["COMPASS_DATA_DIR"] = _folder
os.environ["COMPASS_BROKER_URL"] = "memory://"
os.environ["COMPASS_RESULT_URL"] = "cache+memory://"
os.environ.pop("COMPASS_DATABASE_URL", None)
if os.environ.get("COMPASS_TEST_DATABASE") == "postgresql":
    os.environ["COMPASS_DATABASE_URL"] = postgres.url()

from compass.settings import *  # noqa: E402, F403
from compass.settings import DATA_DIR, DATABASES  # noqa: E402

if "sqlite" in DATABASES["default"]["ENGINE"]:
    # A file, not memory: threads and processes must see one database.
    DATABASES["default"]["TEST"] = {"NAME": str(Path(DATA_DIR) / "test.sqlite3")}
else:
    # Two runs of the tests may share one server.
    run = os.environ.setdefault("COMPASS_TEST_RUN", str(os.getpid()))
    DATABASES["default"]["TEST"] = {"NAME": f"test_compass_{run}"}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
