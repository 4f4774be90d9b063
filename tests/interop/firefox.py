"""Firefox, driven by its own remote protocol, Marionette: a length, a colon and a JSON array, over one connection."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tests.interop.conftest import PATIENCE

T = TypeVar("T")
PREFERENCES = {
    "marionette.port": 0,  # a free one, which Firefox writes into a file
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "dom.serviceWorkers.testing.enabled": True,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.localDomains": "push.services.mozilla.com,firefox.settings.services.mozilla.com",
}


class Firefox:
    """One Firefox without a window, with a profile of its own and one tab, which trusts any certificate."""

    def __init__(self, profile: Path) -> None:
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items()]
        (profile / "user.js").write_text("".join(lines))
        binary = os.environ.get("FIREFOX") or shutil.which("firefox-esr") or "firefox"
        command = [binary, "--headless", "--marionette", "--no-remote", "--profile", str(profile), "about:blank"]
        with (profile / "log").open("wb") as log:
            home = {**os.environ, "HOME": str(profile)}
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=home)
        try:
            port = self.wait(lambda: _written(profile / "MarionetteActivePort"))
            self._socket = socket.create_connection(("127.0.0.1", int(port)), timeout=PATIENCE)
            self._stream = self._socket.makefile("rb")
            self._number = 0
            try:
                assert self._read()["marionetteProtocol"] == 3
                self.do("WebDriver:NewSession", acceptInsecureCerts=True)
            except BaseException:
                self._stream.close()
                self._socket.close()
                raise
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def do(self, command: str, **parameters: Any) -> Any:
        """Send one command, and return its result."""
        self._number += 1
        message = json.dumps([0, self._number, command, parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(message), message))
        _, number, error, result = self._read()
        assert number == self._number
        if error:
            raise RuntimeError(f"{command}: {error['error']}: {error['message']}")
        return result

    def open(self, url: str) -> None:
        self.do("WebDriver:Navigate", url=url)

    @property
    def url(self) -> str:
        return str(self.do("WebDriver:GetCurrentURL")["value"])

    def run(self, script: str, *args: Any) -> Any:
        """Run the body of a function in the page, and return what it returns."""
        return self.do("WebDriver:ExecuteScript", script=script, args=list(args))["value"]

    def click(self, selector: str) -> None:
        """Click on an element as a user does."""
        (element,) = self.do("WebDriver:FindElement", using="css selector", value=selector)["value"].values()
        self.do("WebDriver:ElementClick", id=element)

    def text(self, selector: str) -> str | None:
        """Return the text of an element, None while it is not there."""
        return self.run("return document.querySelector(arguments[0])?.textContent ?? null", selector)  # type: ignore[no-any-return]

    def wait_for_url(self, url: str) -> None:
        self.wait(lambda: self.url == url or None)

    def wait(self, look: Callable[[], T | None]) -> T:
        """Wait until `look()` returns something."""
        end = time.monotonic() + PATIENCE
        while (found := look()) is None:
            assert self._process.poll() is None, "Firefox has ended"
            assert time.monotonic() < end, "nothing came"
            time.sleep(0.02)
        return found

    def close(self) -> None:
        self._stream.close()
        self._socket.close()
        self._process.terminate()
        self._process.wait(PATIENCE)

    def _read(self) -> Any:
        digits = b""
        while (byte := self._stream.read(1)) != b":":
            assert byte, "Firefox closed the connection"
            digits += byte
        return json.loads(self._stream.read(int(digits)))


def _written(path: Path) -> str | None:
    return (path.read_text() if path.exists() else "") or None
