"""Where everything is: nginx sends /notes/ here."""

from django.urls import path

from . import views

urlpatterns = [
    path("notes/", views.notes),
    path("notes/version", views.version),
    path("notes/health", views.health),
]
