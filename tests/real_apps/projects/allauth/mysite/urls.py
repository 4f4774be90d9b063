"""A page of its own, and those of allauth."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import include, path


def home(request: HttpRequest) -> HttpResponse:
    """Show who is signed in, with a link to allauth's own logout."""
    return HttpResponse(f'<p id="user">{request.user}</p><a href="/accounts/logout/">Sign out</a>')


urlpatterns = [path("", home), path("accounts/", include("allauth.urls"))]
