"""What people on call do: take an incident, say whether its page was of use, and silence probes for a while."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field, StringConstraints

from monitor.casebook import Casebook
from monitor.clock import Clock
from monitor.incidents import Feedback, Incident, acknowledged, rated
from monitor.silences import Silence, Silences
from monitor.store import Store, StoreError, records
from monitor.web.auth import Guard
from monitor.web.problems import ProblemError
from monitor.web.requests import body
from probes.fields import Duration, Several, Table

SETTLE_SECONDS = 5.0
LONGEST_SILENCE = 30 * 86400.0

Pattern = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class FeedbackRequest(Table):
    """What `feedback` says."""

    feedback: Feedback


class SilenceRequest(Table):
    """What `silence` says."""

    probes: Several[Pattern] = Field(min_length=1, max_length=100)
    seconds: Duration = Field(alias="for", gt=0, le=LONGEST_SILENCE)
    reason: Reason


class Operate:
    """The handlers. `rated(kind, feedback)` hears of every word of feedback."""

    def __init__(self, *, casebook: Casebook, silences: Silences, store: Store, guard: Guard, clock: Clock,
                 rated: Callable[[str, str], None] = lambda _kind, _feedback: None) -> None:
        self._casebook, self._silences, self._store, self._guard, self._clock = casebook, silences, store, guard, clock
        self._rated = rated

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/api/v1/incidents/{id}/ack", self.acknowledge), web.post("/api/v1/incidents/{id}/feedback", self.feedback),
            web.get("/api/v1/silences", self.silences), web.post("/api/v1/silences", self.silence),
            web.post("/api/v1/silences/{id}/end", self.unsilence),
        ]

    async def acknowledge(self, request: web.Request) -> web.Response:
        """Take an incident: its reminders end. Taking it again changes nothing; another person takes it over."""
        caller = self._guard.allowed(request, "operate")
        id_ = request.match_info["id"]
        incident = self._open(id_)
        if incident is None:
            await self._stored(id_)
            raise ProblemError(409, f"incident {id_} is over already")
        if incident.acked_by != caller.name:
            self._casebook.apply([acknowledged(incident, caller.name, self._clock.now())], by=caller.name)
            await self._settled()
        return web.json_response((self._open(id_) or await self._stored(id_)).to_dict())

    async def feedback(self, request: web.Request) -> web.Response:
        """Say whether the page of an incident was of use, while it lasts or afterwards."""
        caller = self._guard.allowed(request, "operate")
        word, id_ = (await body(request, FeedbackRequest)).feedback, request.match_info["id"]
        incident = self._open(id_) or await self._stored(id_)
        if incident.feedback != word:
            self._rate(incident, word, caller.name)
            await self._settled()
            self._rated(incident.kind, word)
        return web.json_response((self._open(id_) or await self._stored(id_)).to_dict())

    def _rate(self, incident: Incident, word: Feedback, by: str) -> None:
        """What is open changes in memory; what is over only in the store, after all that was to be written of it before."""
        if self._open(incident.id):
            self._casebook.apply([rated(incident, word)], by=by, detail=word)
        else:
            now = self._clock.now()
            self._casebook.apply([], also=lambda c: records.rate(c, incident.id, word, now, by))

    async def silences(self, request: web.Request) -> web.Response:
        """The silences that hold, and those of the last week, newest first."""
        self._guard.reader(request)
        return web.json_response({"silences": [self._facts(silence) for silence in self._silences.recent()]})

    async def silence(self, request: web.Request) -> web.Response:
        caller = self._guard.allowed(request, "operate")
        wanted = await body(request, SilenceRequest)
        if unknown := self._silences.unknown(wanted.probes):
            problems = [{"path": "probes", "message": f'no probe is named "{name}"'} for name in unknown]
            raise ProblemError(400, "; ".join(p["message"] for p in problems), problems=problems)
        made = await self._silences.add(wanted.probes, wanted.seconds, wanted.reason, caller.name)
        return web.json_response(self._facts(made), status=201, headers={"Location": f"/api/v1/silences/{made.id}"})

    async def unsilence(self, request: web.Request) -> web.Response:
        caller = self._guard.allowed(request, "operate")
        id_ = request.match_info["id"]
        if not any(silence.id == id_ for silence in self._silences.recent()):
            raise ProblemError(404, f"there is no silence {id_}")
        ended = await self._silences.end(id_, caller.name)
        if ended is None:
            raise ProblemError(409, f"silence {id_} is over already")
        self._casebook.release()
        return web.json_response(self._facts(ended))

    def _facts(self, silence: Silence) -> dict[str, Any]:
        return silence.to_dict() | {"active": silence.active(self._clock.now()), "matches": self._silences.names(silence)}

    def _open(self, id_: str) -> Incident | None:
        return next((incident for incident in self._casebook.open if incident.id == id_), None)

    async def _stored(self, id_: str) -> Incident:
        """Raises ProblemError when there is none."""
        found = await self._store.read(lambda c: records.incident(c, id_))
        if found is None:
            raise ProblemError(404, f"there is no incident {id_}")
        return found

    async def _settled(self) -> None:
        """Until it is written down. Raises StoreError."""
        try:
            await asyncio.wait_for(self._casebook.settled(), SETTLE_SECONDS)
        except TimeoutError:
            raise StoreError("it is taken, but could not be written down yet") from None
