"""Services as they are documented, small and on loopback: wrong use of one shows as a wrong state of it, or as its refusal.

Each keeps what its people would see (`alerts`, `shown`, `phone()`), beside `history`: every request and what became of it.
`faults` are answered in place of the service, the first one first.
"""

import asyncio
import html
import json
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Fault:
    """An answer in place of the right one. Status 0 breaks the connection, -1 never answers.

    `taken`: the service has done what it was asked for, and only its answer is lost.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    taken: bool = False
    times: int = 1


class Service:
    """What every fake has: an address, a history, faults, and a limit to what it takes in a sliding window."""

    url = ""

    def __init__(self, most: int, window: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.history: list[dict[str, Any]] = []
        self.faults: deque[Fault] = deque()
        self._most, self._window, self._clock = most, window, clock
        self._calls: dict[str, deque[float]] = {}

    async def take(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        body = await request.read()
        fault = self._fault()
        if fault and not fault.taken:
            self.history.append({"at": time.time(), "path": request.path, "status": fault.status, "effect": "fault"})
            return await _broken(request, fault)
        answer = self.answer(request, body)
        return await _broken(request, fault) if fault else answer

    def answer(self, request: web.Request, body: bytes) -> web.Response:
        raise NotImplementedError

    def effects(self) -> list[str]:
        return [entry["effect"] for entry in self.history]

    def _fault(self) -> Fault | None:
        if not self.faults:
            return None
        fault = self.faults[0]
        fault.times -= 1
        if fault.times <= 0:
            self.faults.popleft()
        return fault

    def _throttled(self, key: str) -> bool:
        now, calls = self._clock(), self._calls.setdefault(key, deque())
        while calls and calls[0] <= now - self._window:
            calls.popleft()
        if len(calls) >= self._most:
            return True
        calls.append(now)
        return False


async def _broken(request: web.Request, fault: Fault) -> web.StreamResponse:
    if fault.status == 0:
        assert request.transport
        request.transport.abort()
        return web.Response()
    if fault.status < 0:
        await asyncio.Event().wait()
    return web.Response(status=fault.status, headers=dict(fault.headers), text=fault.body)


class Slack(Service):
    """An incoming webhook of Slack. `pings` are those whom a message would wake, `shown` is what stands in the channel."""

    def __init__(self, path: str = "/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX", most: int = 1, window: float = 1.0) -> None:
        super().__init__(most, window)
        self.path, self.shown, self.pings = path, [], []  # type: ignore[var-annotated]
        self.archived = self.prohibited = False

    def answer(self, request: web.Request, body: bytes) -> web.Response:
        status, said = self._judge(request, body)
        self.history.append({"at": time.time(), "path": request.path, "status": status, "effect": said})
        return web.Response(status=status, text=said, headers={"Retry-After": "1"} if status == 429 else {})

    def _judge(self, request: web.Request, body: bytes) -> tuple[int, str]:
        if request.path != self.path or request.method != "POST":
            return 404, "no_service"
        if self.archived:
            return 410, "channel_is_archived"
        if self.prohibited:
            return 403, "action_prohibited"
        if self._throttled(""):
            return 429, "rate_limited"
        try:
            message = json.loads(body.decode("utf-8"))
        except ValueError:
            return 400, "invalid_payload"
        if not isinstance(message, dict) or not isinstance(message.get("text"), str):
            return 400, "invalid_payload"
        if not message["text"].strip():
            return 400, "no_text"
        self._show(message)
        return 200, "ok"

    def _show(self, message: dict[str, Any]) -> None:
        text = message["text"][:40_000]
        self.pings += re.findall(r"<(?:!(?:channel|here|everyone)|@\w+|!subteam)[^>]*>", text)
        if message.get("link_names") or message.get("parse") == "full":
            self.pings += re.findall(r"(?<!\w)@(?:channel|here|everyone)", text)
        self.shown.append(html.unescape(re.sub(r"<[^>]*>", "[link]", text)))


class Ntfy(Service):
    """An ntfy server. `published` is what its topics hold; `phone()` is what a phone shows, newest word of each sequence."""

    def __init__(self, topic: str = "shop-oncall-Zx81", token: str = "", most: int = 60, window: float = 300.0) -> None:
        super().__init__(most, window)
        self.topic, self.token, self.published = topic, token, []  # type: ignore[var-annotated]

    def phone(self) -> list[dict[str, Any]]:
        return list({m.get("sequence_id") or str(number): m for number, m in enumerate(self.published)}.values())

    def answer(self, request: web.Request, body: bytes) -> web.Response:
        status, code, said = self._judge(request, body)
        self.history.append({"at": time.time(), "path": request.path, "status": status, "effect": said})
        if status == 200:
            return web.json_response(self.published[-1])
        return web.json_response({"code": code, "http": status, "error": said}, status=status)

    def _judge(self, request: web.Request, body: bytes) -> tuple[int, int, str]:
        if self._throttled(""):
            return 429, 42901, "limit reached: too many requests, please be nice"
        if len(body) > 2 * 4096:
            return 413, 41303, "JSON body too large"
        try:
            message = json.loads(body.decode("utf-8"))
        except ValueError:
            return 400, 40024, "invalid request: request body must be valid JSON"
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return 401, 40101, "unauthorized"
        if self.token and message.get("topic") != self.topic:
            return 403, 40301, "forbidden"
        refused = _unfit(message)
        if refused:
            return 400, *refused
        if len(message["message"].encode()) > 4096:
            message |= {"message": "You received a file: attachment.txt", "attachment": True}
        self.published.append(message)
        return 200, 0, "published"


def _unfit(message: dict[str, Any]) -> tuple[int, str] | None:
    """What a server does not take: the limits of title and tags are those of 2.28."""
    wrong = {
        40009: not re.fullmatch(r"[-_A-Za-z0-9]{1,64}", message.get("topic", "")),
        40007: message.get("priority", 3) not in {1, 2, 3, 4, 5},
        40049: not re.fullmatch(r"[-_A-Za-z0-9]{1,64}", message.get("sequence_id", "x")),
        40057: len(message.get("title", "").encode()) > 1024,
        40058: len(",".join(message.get("tags", [])).encode()) > 512,
    }
    return next(((code, "invalid request") for code, bad in wrong.items() if bad), None)
