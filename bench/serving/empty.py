"""A Django view that does nothing, on the server that Compass uses: the floor of Django."""

from __future__ import annotations

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")  # noqa: S106


def predict(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"outputs": []}, headers={"Content-Length": "15"})


urlpatterns = [path("predict", predict)]
application = get_wsgi_application()
