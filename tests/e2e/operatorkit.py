"""What an operator has: another terminal, the metrics page, a webhook, and the control socket.

The tests' own process is another one than the bot's, so most commands are given right here. `terminal` is a
process of its own, for what trades or is killed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from botcommand import give
from botproc import ROOT, BotProcess

Alerts = list[dict[str, Any]]


def operator(tmp_path: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A command that trades nothing: what `python -m bot` with these arguments says, and its exit code."""
    return give(clean_environment(tmp_path) | environ, *arguments)


def terminal(tmp_path: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Another terminal of the same user."""
    return subprocess.run(
        [sys.executable, "-m", "bot", *arguments], cwd=ROOT, env=clean_environment(tmp_path) | environ,
        text=True, timeout=60, capture_output=True, check=False,
    )  # fmt: skip


def clean_environment(tmp_path: Path) -> dict[str, str]:
    """Without settings of the one who runs the tests, with directories of the test's own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NADO_")}
    clean["NADO_BOT_OUTPUT__STATE_DIR"] = str(tmp_path / "state")
    clean["NADO_BOT_OUTPUT__CSV_PATH"] = str(tmp_path / "operator.csv")
    return clean


def metrics(bot: BotProcess) -> str:
    url = bot.wait_for("metrics   ").split("metrics   ")[1]
    with urllib.request.urlopen(url, timeout=10) as page:
        return str(page.read().decode())


@contextmanager
def webhook() -> Iterator[tuple[str, Alerts]]:
    """Its address, and what came to it."""
    got: Alerts = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Not to the terminal."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/s3cr3t", got
    server.shutdown()
    server.server_close()
    thread.join(5)
