"""Fixtures of the real apps: profiles of Chromium that leave this machine for nothing, and note their WebSockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route

from tests.interop.conftest import LOCAL, browser
from tests.real_apps.running import PATIENCE, SOCKETS
from tests.real_apps.steps import NewPage

__all__ = ["browser"]


@pytest.fixture
def new_page(browser: Browser) -> Iterator[NewPage]:
    """Open a tab in a fresh profile of its own."""
    with ExitStack() as stack:

        def make() -> Page:
            profile = stack.enter_context(browser.new_context(ignore_https_errors=True))
            profile.set_default_timeout(PATIENCE * 1000)
            profile.add_init_script(SOCKETS)
            profile.route(lambda url: urlsplit(url).hostname not in {*LOCAL, "127.0.0.2"}, _is_not_there)
            # A request that is aborted while its profile closes can keep it from closing.
            stack.callback(profile.unroute_all, behavior="ignoreErrors")
            return profile.new_page()

        yield make


def _is_not_there(route: Route) -> None:
    route.abort()


@pytest.fixture
def page(new_page: NewPage) -> Page:
    """One tab; `page.context` is its profile, cookies included."""
    return new_page()
