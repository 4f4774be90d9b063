"""Processes that a benchmark starts, and ends: servers on free ports of 127.0.0.1, and Redis."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server(NamedTuple):
    """Know a server of ours."""

    port: int
    pid: int

    def cpu(self) -> float:
        """Give the seconds of processor time that it has taken so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(command: list[str], port: int, env: Mapping[str, str] | None = None) -> Iterator[int]:
    """Run a command to the end of the block; give its process id once it listens on its port."""
    with tempfile.TemporaryDirectory() as folder:
        places = {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **places, **(env or {})}, stdout=subprocess.DEVNULL
        )
        try:
            while not _listening(port):
                if process.poll() is not None:
                    raise RuntimeError(f"{command[0]} ended with {process.returncode}")
                time.sleep(0.02)
            yield process.pid
        finally:
            process.terminate()
            process.wait()


@contextmanager
def serving(app: str, env: Mapping[str, str] | None = None, port: int | None = None) -> Iterator[Server]:
    """Serve ``benchmarks.served:<app>`` in a process of its own, on a free port if none is given."""
    port = port or free_port()
    options = ["--port", str(port), "--no-access-log", "--log-level", "warning", "--lifespan", "off"]
    with running([sys.executable, "-m", "uvicorn", f"benchmarks.served:{app}", *options], port, env) as pid:
        yield Server(port, pid)


@contextmanager
def redis() -> Iterator[str | None]:
    """Run a Redis without persistence; give its URL, or None where there is none."""
    command = shutil.which("redis-server")
    if command is None:
        yield None
        return
    port = free_port()
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    with running([command, *options], port):
        yield f"redis://127.0.0.1:{port}/0"


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
