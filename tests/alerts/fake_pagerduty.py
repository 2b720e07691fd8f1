"""PagerDuty's Events API v2 as it is documented, for tests: alerts that open, are taken and end, change events, limits.

As a process of its own: `python tests/alerts/fake_pagerduty.py [PORT]` prints one line of JSON with its port. Beside the API
it has `GET /history` (requests, alerts and change events as JSON) and `POST /faults` (a `fakes.Fault` as JSON: "from now on
answer so"). It ends on SIGTERM.
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from aiohttp import web
from fakes import Fault, Service

KEY = "0123456789abcdef0123456789abcdef"
SIZE_LIMIT, SUMMARY_LIMIT, DEDUP_LIMIT = 512_000, 1024, 255
Answer = tuple[int, str]


@dataclass
class Alert:
    """One alert, from its trigger to its end: a trigger after that is another one."""

    routing_key: str
    dedup_key: str
    summary: str
    severity: str
    status: str = "triggered"
    triggers: int = 1
    opened: float = 0.0
    ended: float | None = None


class PagerDuty(Service):
    """An account with the integrations `keys`. What is sent to another key is accepted, and lost."""

    def __init__(self, keys: tuple[str, ...] = (KEY,), most: int = 120, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(most, 60.0, clock)
        self.keys = keys
        self.alerts: list[Alert] = []
        self.changes: list[dict[str, Any]] = []

    def open(self) -> list[Alert]:
        return [alert for alert in self.alerts if alert.ended is None]

    async def take(self, request: web.Request) -> web.StreamResponse:
        if (request.method, request.path) == ("GET", "/history"):
            alerts = [asdict(alert) for alert in self.alerts]
            return web.json_response({"requests": self.history, "alerts": alerts, "open": len(self.open()), "changes": self.changes})
        if (request.method, request.path) == ("POST", "/faults"):
            self.faults.append(Fault(**await request.json()))
            return web.Response(status=204)
        return await super().take(request)

    def answer(self, request: web.Request, body: bytes) -> web.Response:
        entry: dict[str, Any] = {"at": time.time(), "path": request.path, "bytes": len(body)}
        status, effect = self._judge(request, body, entry)
        self.history.append(entry | {"status": status, "effect": effect})
        if status == 202:
            return web.json_response({"status": "success", "message": "Event processed", "dedup_key": entry.get("dedup_key", "")}, status=202)
        return web.json_response({"status": "invalid event", "message": "Event object is invalid", "errors": [effect]}, status=status)

    def _judge(self, request: web.Request, body: bytes, entry: dict[str, Any]) -> Answer:
        handler = {"/v2/enqueue": self._alert, "/v2/change/enqueue": self._change}.get(request.path)
        if not handler or request.method != "POST":
            return 404, "no such resource"
        if len(body) > SIZE_LIMIT:
            return 413, "event is too large"
        try:
            event = json.loads(body.decode("utf-8"))
        except ValueError:
            return 400, "no valid JSON"
        key = event.get("routing_key", "")
        if len(key) != 32:
            return 400, "Length of 'routing_key' is incorrect (should be 32 characters)"
        if self._throttled(key):
            return 429, "throttled"
        entry |= {name: event[name] for name in ("event_action", "dedup_key", "payload", "links") if name in event}
        wrong = handler(event, key)
        return (400, wrong.removeprefix("!")) if wrong.startswith("!") else (202, wrong)

    def _alert(self, event: dict[str, Any], key: str) -> str:
        action, dedup = event.get("event_action"), event.get("dedup_key", "")
        if action not in {"trigger", "acknowledge", "resolve"}:
            return "!'event_action' is invalid"
        if len(dedup) > DEDUP_LIMIT or (not dedup and action != "trigger"):
            return "!'dedup_key' is invalid"
        if action == "trigger" and _unfit(event, severity=True):
            return f"!{_unfit(event, severity=True)}"
        if key not in self.keys:
            return "lost: no such integration"
        alert = next((a for a in self.open() if (a.routing_key, a.dedup_key) == (key, dedup)), None)
        if action == "trigger":
            return self._trigger(event, key, dedup, alert)
        if alert is None:
            return "dropped"
        alert.status = "acknowledged" if action == "acknowledge" else "resolved"
        alert.ended = time.time() if action == "resolve" else None
        return alert.status

    def _trigger(self, event: dict[str, Any], key: str, dedup: str, alert: Alert | None) -> str:
        if alert:
            alert.triggers += 1
            return "logged"
        self.alerts.append(Alert(key, dedup, event["payload"]["summary"], event["payload"]["severity"], opened=time.time()))
        return "opened"

    def _change(self, event: dict[str, Any], key: str) -> str:
        wrong = _unfit(event, severity=False) or ("no change events for rulesets" if key.startswith("R") else "")
        if wrong:
            return f"!{wrong}"
        if key not in self.keys:
            return "lost: no such integration"
        self.changes.append(event["payload"] | {"links": event.get("links", [])})
        return "change"


def _unfit(event: dict[str, Any], *, severity: bool) -> str:
    payload = event.get("payload") or {}
    if not isinstance(payload.get("summary"), str) or not 0 < len(payload["summary"]) <= SUMMARY_LIMIT:
        return "'payload.summary' is missing, or too long"
    if severity and (not payload.get("source") or payload.get("severity") not in {"critical", "error", "warning", "info"}):
        return "'payload.source' or 'payload.severity' is missing or invalid"
    if not isinstance(payload.get("custom_details", {}), dict):
        return "'payload.custom_details' is no object"
    links = event.get("links", [])
    return "" if all(str(link.get("href", "")).startswith("http") for link in links) else "'links' is invalid"


async def main(port: int = 0) -> None:
    """Serve until SIGTERM."""
    service, stopping = PagerDuty(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    app = web.Application(client_max_size=16_000_000)
    app.router.add_route("*", "/{path:.*}", service.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    await stopping.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
