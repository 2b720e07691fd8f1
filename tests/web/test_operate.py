"""Taking an incident, saying what its page was worth, and silencing probes: by whom, how often, and when not."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from listening import serve

from monitor.alerts.delivery import ReceiverSettings
from monitor.alerts.table import RECEIVERS
from monitor.casebook import Casebook, Reports
from monitor.clock import ManualClock
from monitor.health import Flip, State
from monitor.incidents import Context, Incident, on_flip
from monitor.silences import Silences
from monitor.store import Store, records
from monitor.web.auth import Guard, Tokens
from monitor.web.operate import Operate
from monitor.web.settings import TokenSettings, WebSettings

TARGETS = [("home", "", ""), ("pay", "", ""), ("checkout-de", "", ""), ("checkout-fr", "iPhone", "")]
TOKENS = {"anna": "operate-0123456789", "ben": "operate-9876543210", "ci": "update-0123456789"}
SILENCES = "/api/v1/silences"


def hook() -> ReceiverSettings:
    given = {"name": "hook", "kind": "webhook", "url": "http://127.0.0.1:9/", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
    return RECEIVERS["webhook"].settings.model_validate(given, context={"base": Path("/")})


@dataclass
class Room:
    """The operators' part of the API, with real books behind it."""

    store: Store
    clock: ManualClock
    casebook: Casebook
    silences: Silences
    session: aiohttp.ClientSession
    url: str
    ratings: list[tuple[str, str]] = field(default_factory=list)

    async def ask(self, path: str, body: Any = None, *, token: str = "anna", method: str = "POST") -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {TOKENS[token]}"} if token else {}
        async with self.session.request(method, self.url + path, headers=headers, json=body) as answer:
            return answer.status, await answer.json(content_type=None)

    async def silence(self, *probes: str, seconds: str = "2h", reason: str = "a supplier moves house") -> dict[str, Any]:
        status, facts = await self.ask(SILENCES, {"probes": list(probes), "for": seconds, "reason": reason})
        assert status == 201, facts
        return dict(facts)

    async def goes(self, probe: str, new: State = State.DOWN) -> Incident:
        old = State.UP if new is State.DOWN else State.DOWN
        flip = Flip(probe, "", "", old, new, "body", self.clock.now(), self.clock.now() - 60, 3, 3)
        transitions = on_flip(self.casebook.open, flip, Context(host="shop"), lambda: f"i-{probe}")
        self.casebook.apply(transitions, flip=flip)
        await self.casebook.settled()
        return transitions[0].incident

    async def steps(self, id_: str) -> list[tuple[str, str, str]]:
        return [(s["what"], s["by"], s["detail"]) for s in await self.store.read(lambda c: records.incident_steps(c, id_))]

    async def told(self) -> list[tuple[str, str]]:
        await self.casebook.settled()
        return list(await self.store.read(lambda c: c.execute("SELECT incident, kind FROM outbox ORDER BY created, seq").fetchall()))


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    clock = ManualClock()
    async with Store(tmp_path) as store, aiohttp.ClientSession() as session:
        casebook, silences = Casebook(store, [hook()], clock, Reports()), Silences(store, clock, TARGETS)
        casebook.muted = silences.muted
        committing = asyncio.create_task(casebook.run())
        scopes = {"anna": "operate", "ben": "operate", "ci": "update"}
        given = [TokenSettings.model_validate({"name": n, "value": TOKENS[n], "scopes": [scopes[n]]}) for n in TOKENS]
        found = Room(store, clock, casebook, silences, session, "")
        operate = Operate(casebook=casebook, silences=silences, store=store, guard=Guard(Tokens(given, "local"), open_reads=True), clock=clock,
                          rated=lambda kind, feedback: found.ratings.append((kind, feedback)))
        async with serve(WebSettings(listen="127.0.0.1:0"), operate.routes()) as port:
            found.url = f"http://127.0.0.1:{port}"
            yield found
        committing.cancel()


# ---- taking an incident


async def test_an_incident_is_taken_by_whoever_holds_the_token(room: Room) -> None:
    await room.goes("pay")
    status, facts = await room.ask("/api/v1/incidents/i-pay/ack")
    assert (status, facts["acked_by"], facts["acked_at"]) == (200, "anna", room.clock.now())
    assert await room.steps("i-pay") == [("firing", "", ""), ("acknowledged", "anna", "")]
    stored = await room.store.read(lambda c: records.incident(c, "i-pay"))
    assert stored is not None
    assert stored.acked_by == "anna"


async def test_taking_it_again_changes_nothing_and_somebody_else_takes_it_over(room: Room) -> None:
    await room.goes("pay")
    await room.ask("/api/v1/incidents/i-pay/ack")
    room.clock.at += 60
    _, again = await room.ask("/api/v1/incidents/i-pay/ack")
    assert again["acked_at"] == room.clock.now() - 60
    _, other = await room.ask("/api/v1/incidents/i-pay/ack", token="ben")
    assert (other["acked_by"], other["acked_at"]) == ("ben", room.clock.now())
    assert [s[:2] for s in await room.steps("i-pay")] == [("firing", ""), ("acknowledged", "anna"), ("acknowledged", "ben")]


@pytest.mark.parametrize(("token", "status"), [("", 401), ("ci", 403)])
@pytest.mark.parametrize("path", ["/api/v1/incidents/i-pay/ack", "/api/v1/incidents/i-pay/feedback", SILENCES, f"{SILENCES}/s/end"])
async def test_it_needs_the_scope_operate(room: Room, path: str, token: str, status: int) -> None:
    await room.goes("pay")
    assert (await room.ask(path, {"feedback": "useful"}, token=token))[0] == status
    assert await room.steps("i-pay") == [("firing", "", "")]


async def test_what_is_not_there_or_over_cannot_be_taken(room: Room) -> None:
    status, problem = await room.ask("/api/v1/incidents/nobody/ack")
    assert (status, problem["code"], problem["detail"]) == (404, "not_found", "there is no incident nobody")
    await room.goes("pay")
    await room.goes("pay", State.UP)
    status, problem = await room.ask("/api/v1/incidents/i-pay/ack")
    assert (status, problem["code"], problem["detail"]) == (409, "wrong_phase", "incident i-pay is over already")


# ---- feedback


async def test_feedback_is_kept_counted_once_a_word_and_told_to_nobody(room: Room) -> None:
    await room.goes("pay")
    for word in ("useful", "useful", "false"):
        status, facts = await room.ask("/api/v1/incidents/i-pay/feedback", {"feedback": word})
        assert (status, facts["feedback"]) == (200, word)
    assert room.ratings == [("outage", "useful"), ("outage", "false")]
    assert (await room.steps("i-pay"))[1:] == [("feedback", "anna", "useful"), ("feedback", "anna", "false")]
    assert await room.told() == [("i-pay", "firing")]


async def test_feedback_the_day_after_changes_what_is_stored_and_opens_nothing(room: Room) -> None:
    await room.goes("pay")
    await room.goes("pay", State.UP)
    before = await room.told()
    status, facts = await room.ask("/api/v1/incidents/i-pay/feedback", {"feedback": "false"}, token="ben")
    assert (status, facts["feedback"], facts["resolved"]) == (200, "false", room.clock.now())
    assert (await room.steps("i-pay"))[-1] == ("feedback", "ben", "false")
    assert (room.casebook.open, await room.told()) == ([], before)


@pytest.mark.parametrize("body", [None, {}, {"feedback": "meh"}, {"feedback": True}, {"feedback": "useful", "more": 1}, []])
async def test_other_feedback_is_refused(room: Room, body: Any) -> None:
    await room.goes("pay")
    assert (await room.ask("/api/v1/incidents/i-pay/feedback", body))[0] == 400
    assert (await room.ask("/api/v1/incidents/nobody/feedback", {"feedback": "useful"}))[0] == 404
    assert room.ratings == []


async def test_what_could_not_be_written_down_yet_is_said(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.web.operate.SETTLE_SECONDS", 0.05)
    await room.goes("pay")
    holding = asyncio.Event()

    async def never(*_: Any, **__: Any) -> None:
        await holding.wait()
    monkeypatch.setattr(room.store, "write", never)
    status, problem = await room.ask("/api/v1/incidents/i-pay/ack")
    assert (status, problem["code"]) == (503, "unavailable")
    assert room.casebook.open[0].acked_by == "anna", "in memory it holds"


# ---- silences


async def test_a_silence_says_which_probes_it_covers_and_who_made_it(room: Room) -> None:
    facts = await room.silence("checkout-*", "pay")
    now = room.clock.now()
    assert facts == {"id": facts["id"], "probes": ["checkout-*", "pay"], "starts": now, "ends": now + 7200, "reason": "a supplier moves house",
                     "by": "anna", "ended": None, "ended_by": "", "active": True, "matches": ["checkout-de", "checkout-fr", "pay"]}
    assert await room.ask(SILENCES, method="GET", token="") == (200, {"silences": [facts]})
    assert room.silences.targets(now) == set(TARGETS[1:])


@pytest.mark.parametrize("change", [
    {"probes": []}, {"probes": ["nobody"]}, {"probes": ["pay", "nobody-*"]}, {"probes": "pay"}, {"probes": [""]}, {"probes": ["x" * 65]},
    {"for": "0s"}, {"for": "31d"}, {"for": 7200}, {"for": "soon"}, {"reason": ""}, {"reason": "  "}, {"reason": "x" * 501}, {"more": 1}])
async def test_a_silence_that_is_none_is_refused(room: Room, change: dict[str, Any]) -> None:
    status, problem = await room.ask(SILENCES, {"probes": ["pay"], "for": "2h", "reason": "why"} | change)
    assert (status, problem["code"]) == (400, "invalid"), problem
    assert problem["problems"]
    assert room.silences.recent() == []


async def test_what_is_wrong_with_a_silence_is_said_in_words(room: Room) -> None:
    _, problem = await room.ask(SILENCES, {"probes": ["pay"], "for": "60d", "reason": "why"})
    assert problem["detail"] == 'for: must be at most "30d", not "60d"'


@pytest.mark.parametrize("missing", ["probes", "for", "reason"])
async def test_a_silence_needs_all_three(room: Room, missing: str) -> None:
    body = {"probes": ["pay"], "for": "2h", "reason": "why"}
    del body[missing]
    assert (await room.ask(SILENCES, body))[0] == 400


async def test_what_is_silenced_pages_nobody_until_the_silence_ends_by_hand(room: Room) -> None:
    silence = await room.silence("pay")
    assert not (await room.goes("pay")).told
    assert await room.told() == []
    status, facts = await room.ask(f"{SILENCES}/{silence['id']}/end", token="ben")
    assert (status, facts["active"], facts["ended"], facts["ended_by"]) == (200, False, room.clock.now(), "ben")
    assert await room.told() == [("i-pay", "firing")], "at once: it still lasts"


async def test_a_silence_that_is_over_or_unknown_cannot_be_ended(room: Room) -> None:
    silence = await room.silence("pay", seconds="1m")
    room.clock.at += 60
    status, problem = await room.ask(f"{SILENCES}/{silence['id']}/end")
    assert (status, problem["code"]) == (409, "wrong_phase")
    assert (await room.ask(f"{SILENCES}/nobody/end"))[0] == 404
    assert [s["active"] for s in (await room.ask(SILENCES, method="GET"))[1]["silences"]] == [False]
    room.clock.at += 7 * 86400 + 1
    assert (await room.ask(SILENCES, method="GET"))[1] == {"silences": []}


async def test_silences_survive_a_restart(room: Room) -> None:
    first, second = await room.silence("pay"), await room.silence("home")
    await room.ask(f"{SILENCES}/{first['id']}/end")
    again = Silences(room.store, room.clock, TARGETS)
    await again.load()
    assert again.recent() == room.silences.recent()
    assert again.targets(room.clock.now()) == {("home", "", "")}
    assert await again.end(first["id"], "x") is None
    assert (await again.end(second["id"], "x")) is not None
