"""Django's settings, from the environment alone; docs/settings.md lists every name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from compass import env

try:
    ENVIRONMENT = env.read()
except env.BadEnvironment as error:
    sys.exit(f"Compass cannot start; these settings are wrong:\n{error}")

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = ENVIRONMENT.data_dir
SECRET_KEY = ENVIRONMENT.secret_key
DEBUG = ENVIRONMENT.debug
ALLOWED_HOSTS = [*ENVIRONMENT.allowed_hosts, ENVIRONMENT.host]

INSTALLED_APPS = [
    "compass.apps.CompassConfig",
    "registry.apps.RegistryConfig",
    "training.apps.TrainingConfig",
    "inference.apps.InferenceConfig",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_celery_results",
    "django_filters",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]
MIDDLEWARE = [
    "compass.middleware.RequestId",
    "compass.middleware.Counted",
    "compass.middleware.RefuseNul",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "compass.urls"
WSGI_APPLICATION = "compass.wsgi.application"
APPEND_SLASH = True  # for the admin; the API's addresses have no trailing slash

DATABASES: dict[str, dict[str, Any]] = {"default": ENVIRONMENT.database}
DATABASES["default"] |= {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["ENGINE"] = "compass.sqlite"  # writers take turns
    DATABASES["default"]["OPTIONS"] = {
        # Immediate: a transaction that begins by reading cannot fail when it comes to write.
        "transaction_mode": "IMMEDIATE",
        "timeout": 15,  # seconds
        "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;PRAGMA temp_store=MEMORY;",
    }
else:
    # A server that is cut off says nothing: its connections end in time for a worker to
    # learn of it within its lease, and to come back as soon as the net does.
    DATABASES["default"]["OPTIONS"] = {
        "connect_timeout": 5,  # seconds
        "keepalives_idle": 5,
        "keepalives_interval": 3,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,  # milliseconds
        **DATABASES["default"].get("OPTIONS", {}),
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("MinimumLengthValidator", "CommonPasswordValidator")
]

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
STATIC_URL = "static/"
STATIC_ROOT = None  # static files are served from the packages that bring them
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CSRF_FAILURE_VIEW = "compass.api.csrf_failure"
DATA_UPLOAD_MAX_MEMORY_SIZE = 32 * 1024**2  # bytes of a JSON body

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "compass.api.KeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["compass.api.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["registry.rendering.QuickJSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["compass.api.StrictJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "compass.api.ProblemNegotiation",
    "DEFAULT_PAGINATION_CLASS": "compass.api.NewestFirst",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "compass.api.problem_response",
    "PAGE_SIZE": 50,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Compass",
    "DESCRIPTION": "Trains PyTorch models and serves them.",
    "VERSION": "v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PUBLIC": True,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "LaneEnum": ["cpu", "gpu", "auto"],
        "TaskLaneEnum": "registry.lanes.NAMES",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "compass.schema.add_problems",
    ],
}

CELERY_IMPORTS = ["compass.ready"]
CELERY_BROKER_URL = ENVIRONMENT.broker_url
# Background work leaves its results in the database; what has a row of its own ignores them.
CELERY_RESULT_BACKEND = "django-db"
CELERY_RESULT_EXTENDED = True
CELERY_RESULT_EXPIRES = 7 * 24 * 3600  # seconds
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_TRACK_STARTED = False
# Early acknowledgement: the claim in the database and re-sending by dispatch guard the work.
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_DISABLE_PREFETCH = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# After a reconnection the threads of the pool would set it again, and read the answer from
# the connection that the main loop reads: each gets half of the other's frames, and both wait.
CELERY_WORKER_ENABLE_PREFETCH_COUNT_REDUCTION = False
CELERY_TASK_PUBLISH_RETRY = False
CELERY_TASK_DEFAULT_QUEUE = "control"
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_TASK_SEND_SENT_EVENT = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 2,
    "socket_connect_timeout": 2,
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.2,
    "interval_max": 0.2,
}
CELERY_BEAT_SCHEDULER = "compass.beat:Scheduler"
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "beat" / "schedule")
CELERY_BEAT_SCHEDULE = {
    name: {"task": f"registry.{name}", "schedule": every, "options": {"expires": every}}
    for name, every in (
        ("dispatch", 15.0),  # a safety net; rescue dispatches as well
        ("rescue", 5.0),
        ("expire", 15.0),
        ("clean", 3600.0),
    )
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "format": "{asctime} {levelname} {name}: {message}",
            "style": "{",
        }
    },
    "filters": {"regular": {"()": "compass.log.NotRegular"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        "httpx": {"level": "WARNING"},
        "celery.app.trace": {"filters": ["regular"]},
        "celery.worker.strategy": {"filters": ["regular"]},
        "celery.beat": {"filters": ["regular"]},
    },
    "root": {"handlers": ["console"], "level": ENVIRONMENT.log_level},
}
