from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from compass import health, metrics, schema  # noqa: F401

urlpatterns = [
    path("health", health.alive),
    path("health/ready", health.ready),
    path("metrics", metrics.metrics),
    path("api/schema", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    path("api/v1/", include("training.urls")),
    path("api/v1/", include("registry.urls")),
    path("api/v1/", include("training.older_urls")),
    path("", include("training.older_urls")),
    path("api/v1/", include("inference.urls")),
    path("admin/", admin.site.urls),
]
handler400 = "compass.api.bad_request"
handler404 = "compass.api.not_found"
handler500 = "compass.api.server_error"
