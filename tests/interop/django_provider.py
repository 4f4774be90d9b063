"""django-oauth-toolkit as a provider: `python -m tests.interop.django_provider '{"port": ..., "clients": [...]}'`.

Its ID Tokens and its logout are switched on, users are not asked for their consent; the rest are its defaults.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import django
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.urls import include, path

APPS = ["auth", "contenttypes", "sessions", "staticfiles"]
LOGIN = "<form method=post>{% csrf_token %}{{ form.as_p }}<button type=submit>Log in</button></form>"
urlpatterns: list[Any] = []


def configure(database: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pages = ("django.template.loaders.locmem.Loader", {"registration/login.html": LOGIN})
    loaders = [pages, "django.template.loaders.app_directories.Loader"]
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}},
        INSTALLED_APPS=[*(f"django.contrib.{app}" for app in APPS), "oauth2_provider"],
        LOGIN_URL="/login",
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        MIGRATION_MODULES=dict.fromkeys([*APPS, "oauth2_provider"]),  # the tables are made in one go
        OAUTH2_PROVIDER={
            "OIDC_ENABLED": True,
            "OIDC_RP_INITIATED_LOGOUT_ENABLED": True,
            "OIDC_RSA_PRIVATE_KEY": key.private_bytes(*pem).decode(),
            "SCOPES": {"openid": "who you are", "email": "your address"},
        },
        ROOT_URLCONF=__name__,
        SECRET_KEY="interop",
        STATIC_URL="/static/",
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": {"loaders": loaders}}],
        USE_TZ=True,
    )
    django.setup()


def register(clients: list[dict[str, Any]]) -> None:
    from django.contrib.auth.models import User
    from oauth2_provider.models import Application

    User.objects.create_user("alice", password="wonderland")
    for client in clients:
        Application.objects.create(
            name=client["client_id"],
            client_id=client["client_id"],
            client_secret=client["client_secret"],
            client_type="confidential",
            authorization_grant_type="authorization-code",
            algorithm="RS256",
            redirect_uris=" ".join(client["redirect_uris"]),
            post_logout_redirect_uris=" ".join(client["post_logout_redirect_uris"]),
            skip_authorization=True,
        )


def main(port: int, clients: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        configure(Path(folder) / "db")
        from django.contrib.auth.views import LoginView  # can be imported now
        from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

        call_command("migrate", run_syncdb=True, verbosity=0)
        register(clients)
        urlpatterns.extend([path("login", LoginView.as_view()), path("o/", include("oauth2_provider.urls"))])
        application = ASGIStaticFilesHandler(get_asgi_application())
        uvicorn.run(application, host="127.0.0.1", port=port, log_level="warning", lifespan="off")


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
