"""GET /artifacts/NAME: evidence that a probe kept. A screenshot is shown, everything else is handed over to be saved: none of it can act."""

import asyncio
import os
from collections.abc import Callable
from typing import BinaryIO

from aiohttp import web

from monitor.web.auth import Guard
from monitor.web.pages import problem_page
from monitor.web.problems import ProblemError
from probes.artifacts import Artifacts

CHUNK = 256 * 1024        # bytes that are read and sent at once
# A browser draws a picture with a style of its own; beyond that nothing is allowed, and it is of no origin.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
# Text stays text whatever it holds: a page of the shop is never shown as a page of ours.
_TYPES = {"png": "image/png", "zip": "application/zip", "json": "text/plain; charset=utf-8", "txt": "text/plain; charset=utf-8"}
_GONE = "There is no such evidence: it is kept for a while only, and the oldest goes first when there is too much."


class ArtifactPages:
    """The handler. `artifacts()` is the folder as the configuration has it now."""

    def __init__(self, artifacts: Callable[[], Artifacts], guard: Guard) -> None:
        self._artifacts, self._guard = artifacts, guard

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/artifacts/{id}", self.show)]

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The file; what keeps it away as a page for people."""
        try:
            self._guard.viewer(request)
            _navigated(request)
            name = request.match_info["id"]
            file = await asyncio.to_thread(self._artifacts().open, name)
        except FileNotFoundError:
            return await problem_page(request, ProblemError(404, _GONE))
        except ProblemError as problem:
            return await problem_page(request, problem)
        try:
            return await _sent(request, name, file)
        finally:
            file.close()


def _navigated(request: web.Request) -> None:
    """A link in a message leads here from anywhere, but no page of another site puts it into itself. Raises ProblemError."""
    site, mode, dest = (request.headers.get(f"Sec-Fetch-{name}", "") for name in ("Site", "Mode", "Dest"))
    if site not in {"", "none", "same-origin"} and (mode, dest) != ("navigate", "document"):
        raise ProblemError(403, "a page of another site asks for this evidence")


async def _sent(request: web.Request, name: str, file: BinaryIO) -> web.StreamResponse:
    ext = name.rpartition(".")[2]
    response = web.StreamResponse(headers={
        "Content-Type": _TYPES[ext], "Content-Disposition": "inline" if ext == "png" else f'attachment; filename="{name}"',
        "Content-Security-Policy": _POLICY, "Cache-Control": "no-store"})
    left = response.content_length = os.fstat(file.fileno()).st_size
    await response.prepare(request)
    while request.method != "HEAD" and left > 0 and (piece := await asyncio.to_thread(file.read, min(CHUNK, left))):
        await response.write(piece)
        left -= len(piece)
    await response.write_eof()
    return response
