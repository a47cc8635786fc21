"""A Django view that does nothing, on the server that Compass uses: the floor of Django.

    python -m bench.serving.peers.empty MODEL PORT PROCESSES
"""

from __future__ import annotations

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
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces
    from granian.log import LogLevels

    Granian(
        f"{__spec__.name}:application", port=int(port), interface=Interfaces.WSGI,
        workers=int(processes), websockets=False, http=HTTPModes.http1,
        blocking_threads=16, log_level=LogLevels.warning,
    ).serve()  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
