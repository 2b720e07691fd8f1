"""Operator pages: `/` tells how the shop is, `/updates/ID` what an update did to it. They show, and change nothing."""

import asyncio
import base64
import hashlib
import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from aiohttp import web

from monitor import signal_words
from monitor.alerts import words
from monitor.alerts.page import Delivery, Facts, Page, compose
from monitor.clock import Clock, iso, span
from monitor.incidents import Incident
from monitor.judge.explain import WHYS
from monitor.judge.ruling import REASONS as RULES
from monitor.report import VERDICTS, linked
from monitor.store import Store, StoreError, records, signatures
from monitor.updates import LIVE, Status, Update
from monitor.web import state
from monitor.web.api import Operations
from monitor.web.auth import Guard
from monitor.web.problems import ProblemError
from probes.reasons import REASONS
from probes.scrub import visible

if TYPE_CHECKING:
    import jinja2

REFRESH_SECONDS = 15          # while something is open
MANY = 20                     # what is well is folded away when it is more than this
UPDATES, OVER_SECONDS = 10, 86400.0
COLOURS = {"bad": "crimson", "unsure": "orange", "good": "seagreen", "none": "gray"}
MARKS = {"down": "bad", "failing": "unsure", "broken": "unsure", "up": "good"}
STAGES = {
    Status.OPEN: "under way", Status.OBSERVING: "finished, being observed", Status.RECOVERING: "rolled back, not yet back to normal",
    Status.CLOSED: "closed", Status.CANCELLED: "cancelled: it did not take place", Status.REFUSED: "refused by the preflight",
}
ACTS = {
    "start": "started", "finish": "finished: rolled out everywhere", "rollback": "rolled back",
    "cancel": "cancelled", "expired": "taken as finished, because nobody said so,", "superseded": "closed, because the next one began,",
    "recovered": "found back to normal", "left out": "a probe was left out of the judgement", "pass": "found harmless", "regression": "found worse",
    "inconclusive": "left without an answer",
}


@dataclass(frozen=True, slots=True)
class Insight:
    """What only the composition root can see; handed in by it. Looked at on the event loop."""

    targets: Callable[[], list[dict[str, Any]]]
    incidents: Callable[[], Sequence[Incident]]      # those that are open
    facts: Callable[[], Facts]                       # of the shop, for the words about an incident
    status: Callable[[], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What is in memory at one moment."""

    now: float
    targets: list[dict[str, Any]]
    incidents: Sequence[Incident]
    facts: Facts
    status: Mapping[str, Any]
    still: bool                                      # the reader does not want the page to change by itself


@dataclass(frozen=True, slots=True)
class Stored:
    """What is read from the store for `/`."""

    updates: list[Update]
    over: list[Incident]                             # that ended not long ago


class Pages:
    """The handlers. All but a look at what is in memory is done in threads: many signals take longer than the event loop may stand."""

    def __init__(self, *, store: Store, operations: Operations, guard: Guard, clock: Clock, insight: Insight) -> None:
        self._store, self._operations, self._guard, self._clock, self._insight = store, operations, guard, clock, insight

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/", self.now), web.get("/updates/{id}", self.update)]

    async def now(self, request: web.Request) -> web.Response:
        """How the shop is. Without the store it tells what is in memory."""
        async def made(seen: Seen) -> web.Response:
            try:
                stored = await self._store.read(lambda c: _stored(c, seen.now))
            except StoreError:
                stored = None
            return await asyncio.to_thread(self._now, seen, stored)
        return await self._answer(request, made)

    async def update(self, request: web.Request) -> web.Response:
        """One update, and the evidence of every signal."""
        async def made(seen: Seen) -> web.Response:
            id_ = request.match_info["id"]
            stored = await self._store.read(lambda c: self._one(c, id_))
            if stored is None:
                raise ProblemError(404, "There has been no update yet." if id_ == "newest" else f"There is no update {id_}.")
            return await asyncio.to_thread(self._update, seen, *stored)
        return await self._answer(request, made)

    async def _answer(self, request: web.Request, made: Callable[[Seen], Awaitable[web.Response]]) -> web.Response:
        """The page, or what keeps it away."""
        try:
            self._guard.viewer(request)
            return await made(self._seen(still=request.query.get("refresh") == "off"))
        except ProblemError as error:
            problem = error
        except StoreError as error:
            problem = ProblemError(503, f"The store cannot be read just now: {error}.")
        return await problem_page(request, problem)

    def _seen(self, *, still: bool) -> Seen:
        insight = self._insight
        return Seen(self._clock.now(), insight.targets(), insight.incidents(), insight.facts(), insight.status(), still)

    # In a thread. `facts` only looks up what the watch holds, and what it holds is replaced as a whole.

    def _now(self, seen: Seen, stored: Stored | None) -> web.Response:
        updates = stored.updates if stored else []
        live = next((u for u in updates if u.live), None)
        watched = self._operations.facts(live) if live else None
        if watched and watched["verdict"] != "watching":
            watched = None
        told = _told(seen.incidents, seen, updates)
        found = state.state(told, seen.targets, watched, seen.status)
        probes = sorted((_probe(t, seen.now) for t in seen.targets), key=lambda p: (not p["critical"], p["probe"]))
        return _page("now.html", seen, live=live is not None or found.mark != "good", mark=found.mark, state=found, watched=watched,
                     watching=state.watching(watched) if watched else "",
                     shop_told=[p for p in told if p.kind != "monitor_fault"], own_told=[p for p in told if p.kind == "monitor_fault"],
                     trouble="" if seen.status["healthy"] else f"Is not well: {state.unwell(seen.status)}.",
                     bad=[p for p in probes if p["mark"] != "good"], well=[p for p in probes if p["mark"] == "good"],
                     updates=[_line(u) for u in updates], unread=stored is None, over=_told(stored.over, seen, updates) if stored else [])

    def _one(self, connection: sqlite3.Connection, id_: str) -> tuple[Update, list[dict[str, Any]], list[dict[str, Any]]] | None:
        """An update, who did what to it, and what was first logged with it; None when there is none."""
        found = records.newest_update(connection) if id_ == "newest" else records.update(connection, id_)
        if found is None:
            return None
        until = self._operations.facts(found)["attributed_until"]
        return found, records.acts(connection, found.id), signatures.told_of(connection, found, until)

    def _update(self, seen: Seen, update: Update, acts: list[dict[str, Any]], news: list[dict[str, Any]]) -> web.Response:
        facts = self._operations.facts(update)
        mark = {"pass": "good", "regression": "bad"}.get(facts["verdict"], "unsure")
        told = _told([i for i in seen.incidents if i.update == update.id], seen, [update])
        return _page("update.html", seen, live=Status(facts["status"]) in LIVE, mark=mark, u=_whole(facts), sentence=_sentence(facts),
                     groups=_groups(facts["signals"]), acts=[_act(act) for act in acts], told=told, news=news)


async def problem_page(request: web.Request, problem: ProblemError) -> web.Response:
    """What keeps a page away, as a page; for programs in the form that they get everywhere."""
    answer = problem.response()
    if "text/html" not in request.headers.get("Accept", ""):
        return answer
    page = await asyncio.to_thread(_html, "problem.html", mark="unsure", status=problem.status, detail=str(problem.body["detail"]))
    page.headers.update({name: answer.headers[name] for name in ("WWW-Authenticate", "Retry-After") if name in answer.headers})
    if problem.status == 503 and request.query.get("refresh") != "off":
        page.headers["Refresh"] = str(REFRESH_SECONDS)      # a phone that came by just then must not show this for ever
    return page


def _page(template: str, seen: Seen, *, live: bool, mark: str, **view: Any) -> web.Response:
    """With what every page of ours shows. `live`: something may change soon."""
    refresh = REFRESH_SECONDS if live and not seen.still else 0
    page = _html(
        template, mark=mark, shop=seen.facts.shop.name, now=seen.now, when=partial(words.moment, now=seen.now), refresh=refresh,
        stopped=live and seen.still, zone=datetime.fromtimestamp(seen.now).astimezone().tzname(), many=MANY, verdicts=VERDICTS,
        quiet={i.id for i in seen.incidents if not i.told}, **view)
    if refresh:
        page.headers["Refresh"] = str(refresh)
    return page


def _html(template: str, *, mark: str, status: int = 200, **view: Any) -> web.Response:
    style, allowed = _style()
    text = _environment().get_template(template).render(view, style=style, colour=COLOURS[mark])
    policy = f"default-src 'none'; style-src '{allowed}'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    return web.Response(body=text.encode("utf-8", "replace"), status=status, content_type="text/html", charset="utf-8",
                        headers={"Content-Security-Policy": policy})


def _stored(connection: sqlite3.Connection, now: float) -> Stored:
    over = [i for i in records.incidents(connection, now - OVER_SECONDS, limit=50) if not i.open]
    return Stored(records.updates(connection, UPDATES), over[:UPDATES])


# What is shown


def _told(incidents: Iterable[Incident], seen: Seen, updates: Iterable[Update]) -> list[Page]:
    """Incidents in the words in which they are told to receivers: what pages first, then the newest."""
    by = {update.id: update for update in updates}
    pages = [compose(i, replace(seen.facts, update=by.get(i.update)), Delivery(), seen.now) for i in incidents]
    return sorted(pages, key=lambda page: (page.urgency != "page", -page.began))


def _probe(target: Mapping[str, Any], now: float) -> dict[str, Any]:
    """One line: its state, and its newest run in words."""
    last = "has not run yet"
    if at := target.get("at"):
        reason = REASONS.get(target["reason"], target["reason"]).partition(":")[0]
        last = f"{span(max(0.0, now - at))} ago: {target['outcome']}{f' ({reason})' if reason else ''}, {signal_words.duration(target['seconds'])}"
    well = target["state"] == "up"
    return {"probe": target["probe"], "where": _where(target), "state": target["state"], "mark": MARKS.get(target["state"], "none"),
            "critical": bool(target.get("critical")), "control": bool(target.get("control")), "last": last,
            "since": None if well else target.get("since"), "evidence": target.get("evidence", "")}


def _line(update: Update) -> dict[str, Any]:
    return {"id": update.id, "version": update.version, "verdict": update.verdict, "status": update.status.value, "by": update.by,
            "started": update.started, "stage": _stage(update.status, update.phase, update.recovered, update.rolled_back)}


def _whole(facts: Mapping[str, Any]) -> dict[str, Any]:
    """An update's facts, and what a reader needs beside them."""
    return {**facts, "rule": RULES.get(facts["reason"], facts["reason"]),
            "stage": _stage(Status(facts["status"]), facts["phase"], facts["recovered"], facts["rolled_back"]),
            "linkable": re.match(r"https?://", facts["link"]) is not None}


def _stage(status: Status, phase: str, recovered: float | None, rolled_back: float | None) -> str:
    if status is Status.OPEN:
        return f"{STAGES[status]}, phase {phase}"
    taken = ", rolled back" if rolled_back and status is Status.CLOSED else ""
    return f"{STAGES[status]}{taken}{', back to normal' if recovered else ''}"


def _sentence(facts: Mapping[str, Any]) -> str:
    """The ruling's, without what is missing: that has a list of its own."""
    told = str(facts["sentence"])
    if not told:
        return state.watching(facts) if facts["verdict"] == "watching" and facts["status"] != "cancelled" else ""
    said, missing, _ = told.partition("; missing: ")
    if facts["verdict"] == "pass" and said.startswith(VERDICTS["pass"]):       # which stands before it already
        said = said.removeprefix(VERDICTS["pass"]).strip()
        said = said[:1].upper() + said[1:]
    return f"{said}." if missing else said


def _act(act: Mapping[str, Any]) -> dict[str, Any]:
    by = {"judge": "the judge", "tillwatch": "Tillwatch"}.get(act["by"], act["by"])
    if act["act"] == "phase":
        return {**act, "by": by, "what": f"moved to phase {act['detail']}", "detail": ""}
    return {**act, "by": by, "what": ACTS.get(act["act"], act["act"])}


def _groups(signals: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The guilty first, then what a pass needs, then the rest; in each the nearest to an alarm first."""
    titles = ("Worse", "Needed for a pass", "Others", "Controls, which the update cannot touch")
    found: dict[str, list[dict[str, Any]]] = {title: [] for title in titles}
    for s in signals:
        title = titles[0] if s["guilty"] else titles[3] if s["control"] else titles[1] if s["required"] else titles[2]
        found[title].append(_signal(s))
    for rows in found.values():
        rows.sort(key=lambda s: (s["ruled_clean"], not s["critical"], -s["share"], s["probe"]))
    return [{"title": title, "signals": rows, "folded": len(rows) > MANY and title != titles[0]} for title, rows in found.items() if rows]


def _signal(signal: Mapping[str, Any]) -> dict[str, Any]:
    why = signal.get("why", "")                      # an older version stored none
    because = "; ".join(filter(None, (WHYS.get(why, why), signal_words.because(signal))))
    return {**signal, "where": _where(signal), "mark": signal_words.mark(signal), "sides": signal_words.sides(signal),
            "change": signal_words.change(signal), "share": round(100 * signal_words.share(signal)), "because": because}


def _where(target: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (target["device"], target["cohort"])))


# The form


@cache
def _environment() -> "jinja2.Environment":
    """All that is shown is escaped, and what acts without being seen is written out."""
    import jinja2  # 4 MiB that a daemon whose pages nobody opens need not hold
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("monitor.web"), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value)
    environment.filters |= {"span": span, "iso": iso, "rich": _rich, "evidence": _evidence}
    return environment


def _rich(text: str) -> Any:
    """Escaped; names between asterisks in bold, commands between backticks as such: as our sentences have them."""
    import markupsafe
    escaped = str(markupsafe.escape(visible(text)))
    named = re.sub(r"\*([^*\s][^*]{0,63})\*", r"<b>\1</b>", escaped)
    return markupsafe.Markup(re.sub(r"`(tillwatch [^`<]{1,99})`", r"<code>\1</code>", named))  # noqa: S704 - escaped just before


def _evidence(text: str) -> Any:
    """Escaped; what it names of kept evidence as links. A name has nothing in it that escaping would change."""
    return linked(visible(text), "")


@cache
def _style() -> tuple[Any, str]:
    """The style sheet, and by which hash a page allows it."""
    import markupsafe
    loader = _environment().loader
    text = loader.get_source(_environment(), "style.css")[0] if loader else ""
    return markupsafe.Markup(text), f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"  # noqa: S704 - our own file
