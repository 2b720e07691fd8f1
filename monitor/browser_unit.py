"""The verb `browser`: the browser worker as a unit of its own, for the daemons of one host."""

import asyncio
import signal
from pathlib import Path

from monitor import logs, systemd
from probes.checkout.server import serve
from probes.checkout.settings import BrowserSettings


def run(socket: Path, settings: BrowserSettings) -> int:
    """Serve until SIGTERM or SIGINT. Raises OSError when it cannot listen."""
    logs.configure("auto")
    return asyncio.run(_serve(socket, settings))


async def _serve(socket: Path, settings: BrowserSettings) -> int:
    serving = asyncio.create_task(serve(socket, settings), name="browser")
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    systemd.ready(f"serving at {socket}")
    await asyncio.wait([serving])
    if not serving.cancelled():
        serving.result()
    systemd.stopping()
    return 0
