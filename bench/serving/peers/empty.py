"""A Django view that does nothing, on the server that Compass uses: the floor of Django.

python -m bench.serving.peers.empty MODEL PORT PROCESSES
"""

from __future__ import annotations

import os
import sys

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")  # noqa: S106


def predict(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"outputs": []}, headers={"Content-Length": "15"})


urlpatterns = [path("predict", predict)]
application = get_wsgi_application()


def main(model: str, port: str, processes: str) -> None:
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--no-ws"]
    command += ["--port", port, "--http", "1", "--workers", processes]
    command += ["--blocking-threads", "16", "--log-level", "warning"]
    os.execv(sys.executable, [*command, f"{__spec__.name}:application"])  # noqa: S606


if __name__ == "__main__":
    main(*sys.argv[1:])
