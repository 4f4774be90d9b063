"""Look at an app, or at one provider, and report."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from argparse import Namespace
from typing import Any

from ..doctor.examine import Report, examine_app, examine_provider
from ..doctor.report import as_json, write_text
from ..errors import ConfigurationError
from ..option_checks import base_url, return_address
from ..providers.oidc import OIDCProvider
from .loading import load, make


def run(given: Namespace) -> int:
    """Look at what the arguments name, write the report, and return its exit status. Raises ``ConfigurationError``."""
    base_url(given.url, "--url")
    url = given.url.rstrip("/") if given.url else None
    if (given.app is None) == (given.issuer is None):
        raise ConfigurationError("expected an app, such as myapp:app, or --issuer with --client-id")
    report = asyncio.run(_of_provider(given, url) if given.app is None else examine_app(_app(given), url))
    if given.json:
        sys.stdout.write(as_json(report) + "\n")
    else:
        write_text(report, sys.stdout)
    return report.status


def _app(given: Namespace) -> Any:
    with contextlib.redirect_stdout(sys.stderr):  # what the app prints is no part of the report
        return make(given.app) if given.factory else load(given.app)


async def _of_provider(given: Namespace, url: str | None) -> Report:
    if not given.client_id:
        raise ConfigurationError("expected --client-id along with --issuer")
    target = return_address(given.post_logout_redirect_uri, "--post-logout-redirect-uri")
    return await examine_provider(OIDCProvider(given.issuer, given.client_id), url, target)
