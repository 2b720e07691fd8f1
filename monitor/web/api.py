"""The JSON API under /api/v1, and the answers to Prometheus and to health checks."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol

from aiohttp import web
from pydantic import Field

from monitor import report
from monitor.clock import Clock
from monitor.exporter import Exporter
from monitor.store import Store, records, samples, signatures
from monitor.updates import Refusal, Update
from monitor.web.auth import Guard
from monitor.web.problems import ProblemError
from monitor.web.requests import body, moment, number
from probes.fields import Duration, Several, Table
from probes.sample import Sample

OPEN_METRICS = "application/openmetrics-text"
MOST_SAMPLES = 10_000
MOST_SIGNATURES = signatures.MOST


class ChangeRequest(Table):
    """One part that the update changes."""

    name: str = Field(min_length=1, max_length=200)
    version: str = Field(default="", max_length=200)


class StartRequest(Table):
    """What `update start` says."""

    version: str = Field(min_length=1, max_length=200)
    phase: str = Field(default="all", min_length=1, max_length=64)
    changes: Several[ChangeRequest] = ()
    expect_downtime: Duration = Field(default=0.0, le=86400)
    link: str = Field(default="", max_length=2000, pattern=r"^(https?://[^\s<>\"]+)?$")
    override: str = Field(default="", max_length=1000)


class PhaseRequest(Table):
    """What `update phase` says."""

    name: str = Field(min_length=1, max_length=64)


class Operations(Protocol):
    """What the API can ask of the updates' keeper; the composition root hands it in."""

    async def start(self, request: StartRequest, by: str) -> Update | Refusal: ...
    async def act(self, update: str, act: str, by: str, detail: str = "") -> Update | Refusal | None: ...
    def facts(self, update: Update) -> dict[str, Any]: ...


Status = Callable[[], Mapping[str, Any]]
Reload = Callable[[], Awaitable[tuple[bool, dict[str, Any]]]]      # was it taken, and what changed or what is wrong


class Api:
    """The handlers. `status()` tells how the daemon is: {"healthy": bool, "ready": bool, ...}; `base()` is the address of the operator pages."""

    def __init__(self, *, store: Store, exporter: Exporter, operations: Operations, guard: Guard, clock: Clock, status: Status,
                 targets: Callable[[], list[dict[str, Any]]], shop: str, reload: Reload, base: Callable[[], str] = lambda: "") -> None:
        self._store, self._exporter, self._operations, self._guard, self._clock = store, exporter, operations, guard, clock
        self._status, self._targets, self._shop, self._reload, self._base = status, targets, shop, reload, base

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/metrics", self.metrics), web.get("/-/healthy", self.healthy), web.get("/-/ready", self.ready),
            web.post("/-/reload", self.reload),
            web.get("/api/v1/probes", self.probes), web.get("/api/v1/samples", self.samples), web.get("/api/v1/signatures", self.signatures),
            web.get("/api/v1/incidents", self.incidents), web.get("/api/v1/incidents/{id}", self.incident),
            web.get("/api/v1/updates", self.updates), web.post("/api/v1/updates", self.start),
            web.get("/api/v1/updates/{id}", self.update), web.get("/api/v1/updates/{id}/verdict", self.verdict),
            web.get("/api/v1/updates/{id}/report", self.report),
            web.get("/incidents/{id}", self.incident), web.post("/api/v1/updates/{id}/{act:phase|finish|rollback|cancel}", self.act),
        ]

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """The exposition, in the form that the scraper asks for first."""
        wanted = OPEN_METRICS in request.headers.get("Accept", "")
        kind = f"{OPEN_METRICS}; version=1.0.0; charset=utf-8" if wanted else "text/plain; version=0.0.4; charset=utf-8"
        self._exporter.own.store_size.set(self._store.size())
        response = web.StreamResponse(headers={"Content-Type": kind})
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            response.enable_compression(web.ContentCoding.gzip)
        await response.prepare(request)
        async for part in _parts(self._exporter, open_metrics=wanted):
            await response.write(part)
        await response.write_eof()
        return response

    async def healthy(self, _request: web.Request) -> web.Response:
        status = self._status()
        return web.json_response(dict(status), status=200 if status["healthy"] else 503)

    async def ready(self, _request: web.Request) -> web.Response:
        status = self._status()
        return web.json_response(dict(status), status=200 if status["ready"] else 503)

    async def reload(self, request: web.Request) -> web.Response:
        """Take the configuration as its file has it now: what changed, or every problem with it."""
        self._guard.allowed(request, "admin")
        taken, facts = await self._reload()
        if not taken:
            raise ProblemError(422, facts.pop("detail"), **facts)
        return web.json_response(facts)

    async def probes(self, request: web.Request) -> web.Response:
        self._guard.reader(request)
        return web.json_response({"probes": self._targets()})

    async def samples(self, request: web.Request) -> web.Response:
        """The newest samples, newest first; `?probe=NAME&limit=N`."""
        self._guard.reader(request)
        probe, limit = request.query.get("probe"), number(request, "limit", 100, MOST_SAMPLES)
        now = self._clock.now()

        def work(connection: Any) -> list[dict[str, Any]]:
            found = []
            for stored in samples.backwards(connection, now + 1, now - 86400):
                if probe in {None, stored.sample.probe}:
                    found.append(_sample(stored.id, stored.sample))
                if len(found) >= limit:
                    break
            return found
        return web.json_response({"samples": await self._store.read(work)})

    async def signatures(self, request: web.Request) -> web.Response:
        """Errors that were logged, by signature: `?probe=NAME&since=TIME&limit=N`, newest first, or those that are new with `?update=ID`."""
        self._guard.viewer(request)
        probe, since, limit = request.query.get("probe"), moment(request, "since"), number(request, "limit", 100, MOST_SIGNATURES)
        if update_id := request.query.get("update"):
            update = await self._find(update_id)
            until = self._until(update)
            of_it = await self._store.read(lambda c: signatures.told_of(c, update, until))
            rows = [row for row in of_it if row["first"] >= since and probe in {None, row["probe"]}][:limit]
        else:
            rows = await self._store.read(lambda c: signatures.told(c, self._until, probe, since, limit))
        return web.json_response({"signatures": rows})

    def _until(self, update: Update) -> float | None:
        until: float | None = self._operations.facts(update)["attributed_until"]
        return until

    async def incidents(self, request: web.Request) -> web.Response:
        """Incidents, newest first; `?open=true` for the open ones."""
        self._guard.reader(request)
        found = await self._store.read(records.open_incidents if request.query.get("open") == "true" else records.incidents)
        return web.json_response({"incidents": [incident.to_dict() for incident in found]})

    async def incident(self, request: web.Request) -> web.Response:
        self._guard.viewer(request)
        id_ = request.match_info["id"]
        found = await self._store.read(lambda c: (records.incident(c, id_), records.incident_steps(c, id_)))
        if found[0] is None:
            raise ProblemError(404, f"there is no incident {id_}")
        return web.json_response(found[0].to_dict() | {"steps": found[1]})

    async def updates(self, request: web.Request) -> web.Response:
        self._guard.reader(request)
        return web.json_response({"updates": [self._operations.facts(u) for u in await self._store.read(records.updates)]})

    async def update(self, request: web.Request) -> web.Response:
        self._guard.reader(request)
        update = await self._find(request.match_info["id"])
        acts = await self._store.read(lambda c: records.acts(c, update.id))
        return web.json_response(self._operations.facts(update) | {"acts": acts})

    async def verdict(self, request: web.Request) -> web.Response:
        """What a gate or a rollout controller reads: always 200 once the update exists."""
        self._guard.reader(request)
        facts = self._operations.facts(await self._find(request.match_info["id"]))
        passed = {"pass": True, "regression": False, "inconclusive": None}.get(facts["verdict"])
        return web.json_response({"verdict": facts["verdict"], "pass": passed} | {k: facts[k] for k in (
            "id", "version", "status", "phase", "reason", "sentence", "missing", "rolled_back", "decided_by")})

    async def report(self, request: web.Request) -> web.Response:
        """The post-mortem; `?format=md` for Markdown."""
        self._guard.viewer(request)
        update = await self._find(request.match_info["id"])
        until = self._until(update)
        facts = await self._store.read(lambda c: report.gather(c, update, until))
        shop, now, base = self._shop, self._clock.now(), self._base()
        if request.query.get("format") == "md":
            text = await asyncio.to_thread(report.markdown, facts, shop, now, base)
            return web.Response(text=text, content_type="text/markdown", charset="utf-8")
        text = await asyncio.to_thread(report.html, facts, shop, now, base)
        return web.Response(text=text, content_type="text/html", charset="utf-8", headers={
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"})

    async def start(self, request: web.Request) -> web.Response:
        caller = self._guard.allowed(request, "update")
        wanted = await body(request, StartRequest)
        outcome = await self._operations.start(wanted, caller.name)
        if isinstance(outcome, Refusal):
            raise ProblemError(409, outcome.reason)
        facts = self._operations.facts(outcome)
        if facts["status"] == "refused":
            raise ProblemError(422, "the preflight refused this start", update=facts)
        return web.json_response(facts, status=201, headers={"Location": f"/api/v1/updates/{outcome.id}"})

    async def act(self, request: web.Request) -> web.Response:
        caller, act = self._guard.allowed(request, "update"), request.match_info["act"]
        detail = (await body(request, PhaseRequest)).name if act == "phase" else ""
        update = await self._find(request.match_info["id"])
        outcome = await self._operations.act(update.id, act, caller.name, detail)
        if outcome is None:
            raise ProblemError(404, f"there is no update {update.id}")
        if isinstance(outcome, Refusal):
            raise ProblemError(409, outcome.reason)
        return web.json_response(self._operations.facts(outcome))

    async def _find(self, id_: str) -> Update:
        """An update; "newest" for the newest one. Raises ProblemError."""
        found = await self._store.read(records.newest_update if id_ == "newest" else lambda c: records.update(c, id_))
        if found is None:
            raise ProblemError(404, "there has been no update yet" if id_ == "newest" else f"there is no update {id_}")
        return found



def _parts(exporter: Exporter, *, open_metrics: bool) -> AsyncIterator[bytes]:
    async def pause() -> None:
        await asyncio.sleep(0)
    return exporter.render(pause, open_metrics=open_metrics)




def _sample(id_: int, sample: Sample) -> dict[str, Any]:
    return {
        "id": id_, "probe": sample.probe, "device": sample.device, "cohort": sample.cohort, "outcome": sample.outcome.value, "reason": sample.reason,
        "started": sample.started, "seconds": sample.seconds, "trigger": sample.trigger.value, "spacing": sample.spacing,
        "overloaded": sample.overloaded, "values": dict(sample.values), "evidence": sample.evidence,
    }
