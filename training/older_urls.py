from __future__ import annotations

from django.urls import re_path

from training.older_views import CancelJob, QueryJob, SubmitJob

ID = r"(?P<pk>[0-9]{1,18})"

urlpatterns = [
    re_path(r"^jobs/submit$", SubmitJob.as_view()),
    re_path(rf"^jobs/query/{ID}$", QueryJob.as_view()),
    re_path(rf"^jobs/cancel/{ID}$", CancelJob.as_view()),
    # The older client ends some addresses with a slash.
    re_path(r"^jobs/submit/$", SubmitJob.as_view(schema=None)),
    re_path(rf"^jobs/query/{ID}/$", QueryJob.as_view(schema=None)),
    re_path(rf"^jobs/cancel/{ID}/$", CancelJob.as_view(schema=None)),
]
