"""Errors as application/problem+json (RFC 9457), each with a `code` that programs can hold on to."""

import json
import math
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiohttp import web

from monitor.store import StoreError

log = structlog.get_logger()

CONTENT_TYPE = "application/problem+json"
_TITLES = {
    400: "invalid", 401: "not_authorised", 403: "forbidden", 404: "not_found", 405: "method_not_allowed", 408: "too_slow", 409: "wrong_phase",
    411: "length_required", 413: "too_large", 415: "encoded", 422: "refused", 429: "too_many_attempts", 431: "head_too_large", 500: "internal",
    503: "unavailable",
}
# On every answer. A page sets a policy of its own; whatever else a browser is shown by mistake can load and run nothing. No version.
HEADERS = {
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'", "Server": "Tillwatch",
}
UNREAD = frozenset({408, 411, 413, 415})               # after these the rest of the request has not been read


class ProblemError(Exception):
    """Answer with this error. `detail` is one sentence for a person; `retry_after` (s) tells when the same may be asked again,
    `challenge` how a token is to be given.
    """

    def __init__(self, status: int, detail: str, *, retry_after: float = 0.0, challenge: str = "Bearer", **more: Any) -> None:
        super().__init__(detail)
        self._retry_after, self._challenge = retry_after, challenge
        code = _TITLES.get(status, "error")
        self.body = {"type": "about:blank", "title": code.replace("_", " "), "code": code, "status": status, "detail": detail} | more
        self.status = status

    def response(self) -> web.Response:
        headers = HEADERS | ({"WWW-Authenticate": self._challenge} if self.status == 401 else {})
        if self._retry_after:
            headers["Retry-After"] = str(math.ceil(self._retry_after))
        return web.Response(status=self.status, text=json.dumps(self.body), content_type=CONTENT_TYPE, headers=headers)


@web.middleware
async def middleware(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """Every error in one form."""
    try:
        return await handler(request)
    except ProblemError as problem:
        response = problem.response()
    except StoreError as error:
        response = ProblemError(503, f"the store cannot be read or written just now: {error}").response()
    except web.HTTPException as error:
        if error.status < 400:
            raise
        response = ProblemError(error.status, error.reason).response()
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
    if response.status in UNREAD:
        response.force_close()                     # what is left of the request is not waited for
    return response


async def safe_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """The same safe headers on every answer, also on one that is written piece by piece: for `on_response_prepare`."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = HEADERS["Server"]           # aiohttp has put its own and Python's version there
