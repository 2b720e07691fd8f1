"""The verb `browser`: the browser worker as a unit of its own, for the daemons of one host."""

import asyncio
from pathlib import Path

from monitor import logs, systemd
from probes.checkout.server import serve
from probes.checkout.settings import BrowserSettings


def run(socket: Path, settings: BrowserSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises ServedError when it cannot listen."""
    logs.configure("auto")
    asyncio.run(serve(socket, settings, ready=lambda: systemd.ready(f"serving at {socket}")))
    systemd.stopping()
