"""Errors as application/problem+json (RFC 9457), each with a `code` that programs can hold on to."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiohttp import web

from monitor.store import StoreError

log = structlog.get_logger()

CONTENT_TYPE = "application/problem+json"
_TITLES = {
    400: "invalid", 401: "not_authorised", 403: "forbidden", 404: "not_found", 405: "method_not_allowed", 409: "wrong_phase", 413: "too_large",
    422: "refused", 503: "unavailable",
}
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}


class ProblemError(Exception):
    """Answer with this error. `detail` is one sentence for a person."""

    def __init__(self, status: int, detail: str, **more: Any) -> None:
        super().__init__(detail)
        code = _TITLES.get(status, "error")
        self.body = {"type": "about:blank", "title": code.replace("_", " "), "code": code, "status": status, "detail": detail} | more
        self.status = status

    def response(self) -> web.Response:
        headers = {"WWW-Authenticate": "Bearer"} if self.status == 401 else None
        return web.Response(status=self.status, text=json.dumps(self.body), content_type=CONTENT_TYPE, headers=headers)


@web.middleware
async def middleware(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """Every error in one form, and the same safe headers on every answer."""
    try:
        response = await handler(request)
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
    if not response.prepared:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
    return response
