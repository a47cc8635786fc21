from __future__ import annotations

from django.urls import path

from inference import views

urlpatterns = [
    path("inference/predict", views.Predict.as_view()),
    path("inference/batch", views.Batch.as_view()),
    path("inference/status", views.Status.as_view()),
    path("inference/preload", views.Preload.as_view()),
    path("inference/evict", views.Evict.as_view()),
]
