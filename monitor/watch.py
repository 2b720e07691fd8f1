"""One tick per open update: load, judge, advance, store, page. Every tick works from stored state, so a restart goes on."""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from sqlite3 import Connection
from typing import Any, Protocol

import structlog

from monitor import before, updates
from monitor.before import Judged
from monitor.casebook import Casebook
from monitor.clock import Clock, day, new_id
from monitor.exporter import Exporter
from monitor.health import Target, Urgency
from monitor.incidents import on_recovery, on_regression, on_ruling
from monitor.judge.baseline import Baseline
from monitor.store import Store, StoreError, records, samples
from monitor.under_watch import PAGE, UnderWatch, named_guilty
from monitor.updates import Changed, Refusal, Status, Update, UpdateSettings

log = structlog.get_logger()

IDLE_SECONDS = 1.0          # expiry and silence are looked at this often; samples wake the watch at once
SETTLE_SECONDS = 5.0
RULING_SHARE = 100         # a ruling that takes t is made at most every 100 t, unless there is an alarm
TELL_SECONDS = 60.0         # a ruling is stored this often while nothing changes
LEFT_OUT = "left out"       # the act that takes a probe out of the judgement
Tell = Callable[[Connection, Update, str, str], None]


class Start(Protocol):
    """What is said of an update when it starts."""

    @property
    def version(self) -> str: ...
    @property
    def phase(self) -> str: ...
    @property
    def changes(self) -> "Sequence[Named]": ...
    @property
    def expect_downtime(self) -> float: ...
    @property
    def link(self) -> str: ...
    @property
    def override(self) -> str: ...


class Named(Protocol):
    """A changed part."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...


@dataclass
class Pace:
    """How the watch asks for faster samples; handed in by the composition root."""

    hurry: Callable[[Iterable[Target], float], None] = lambda _targets, _seconds: None
    relax: Callable[[], None] = lambda: None


class Watch:
    """Keeps the updates: starts them, moves them on, judges them. One at a time is open; earlier ones may be observed."""

    def __init__(self, settings: UpdateSettings, targets: Mapping[Target, Judged], store: Store, casebook: Casebook, exporter: Exporter,
                 clock: Clock, pace: Pace) -> None:
        self._settings, self._targets, self._store, self._casebook = settings, targets, store, casebook
        self._exporter, self._clock, self._pace = exporter, clock, pace
        self._open: dict[str, UnderWatch] = {}
        self._known: list[Update] = []               # the newest first; for attribution
        self._cursor = 0                             # the last sample row that was looked at
        self._muted: tuple[bool, frozenset[Target]] = (False, frozenset())
        self._hurried = False
        self._changed: set[str] = set()              # probes that measure something else since the update began that is being started
        self._woken = asyncio.Event()
        self._turn = asyncio.Lock()
        self._busy_since: float | None = None        # clock; of the present step of a tick
        self.silenced: Callable[[float], Iterable[Target]] = lambda _now: ()
        self.tell: Tell = lambda _connection, _update, _act, _by: None      # in the transaction of an update's step

    async def know(self) -> None:
        """Know of the stored updates: enough to say what is muted, and to whom an outage may belong, before `load` has built them."""
        self._known = await self._store.read(records.updates)

    async def load(self) -> None:
        """Take up the updates that were under way when the daemon last stopped."""
        await self.know()
        self._cursor = await self._store.read(samples.newest_id)
        measured = await self._store.read(records.measured)
        lingering = {i.update for i in self._casebook.open if i.kind == "regression"}
        for update in await self._store.read(lambda c: records.watched_updates(c, lingering)):
            stored = await self._store.read(lambda c, id_=update.id: records.baselines(c, id_))  # type: ignore[misc]
            acts = await self._store.read(lambda c, id_=update.id: records.acts(c, id_))  # type: ignore[misc]
            left_out = {act["detail"] for act in acts if act["act"] == LEFT_OUT}
            left_out |= {probe for probe, noted in measured.items() if noted[-1][0] > update.started}       # changed while nobody watched
            await self._take_up(update, {target: Baseline.from_dict(facts) for target, facts in stored.items()}, left_out)
        self._exporter.update(self._known[0] if self._known else None)

    def change(self, settings: UpdateSettings, targets: Mapping[Target, Judged], changed: Iterable[str]) -> None:
        """Go on with other settings and targets. An open update keeps its frozen past; `changed` are names of probes that measure
        something else now: they are left out of its judgement, and so are those that are gone, also when they come back.
        """
        gone = {target[0] for target in self._targets} - {target[0] for target in targets}
        self._settings, self._targets, changed = settings, targets, {*changed, *gone}
        self._changed |= changed
        for watched in self._open.values():
            watched.settings = settings
            if names := watched.leave_out(changed):
                log.warning("probes are left out of the judgement", update=watched.update.id, probes=names)
                self._note_left_out(watched.update, names)
        if self._hurried:
            self._hurry()
        self.wake()

    @property
    def stuck(self) -> float:
        """Seconds for which the present step of the present tick has lasted; 0 between ticks, and while a person's wish is carried out."""
        return self._clock.now() - self._busy_since if self._busy_since is not None else 0.0

    def _progress(self) -> None:
        self._busy_since = self._clock.now()

    def wake(self) -> None:
        """Samples were committed: look at once."""
        self._woken.set()

    async def run(self) -> None:
        """Tick for ever."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), IDLE_SECONDS)
            self._woken.clear()
            try:
                await self.tick()
            except StoreError as error:
                log.error("cannot read samples", error=str(error))  # noqa: TRY400 - expected, and said without a trace
                await asyncio.sleep(IDLE_SECONDS)

    async def tick(self) -> None:
        """Hand new samples to the judge, and move each update on by one step at most."""
        async with self._turn:
            try:
                self._busy_since = self._clock.now()
                await self._look()
            finally:
                self._busy_since = None

    async def _look(self) -> None:
        self._mark_muted()
        self._casebook.release()
        if not self._open:
            return
        for watched in self._open.values():
            if watched.stale:
                await watched.replay(self._store, self._cursor, self._clock.now(), self._progress)
        page = await self._store.read(lambda c: samples.after(c, self._cursor, PAGE))
        for stored in page:
            self._cursor = stored.id
            for watched in self._open.values():
                watched.feed(stored.sample)
        if len(page) == PAGE:
            self.wake()
        for watched in list(self._open.values()):
            self._progress()
            await self._advance(watched, self._clock.now())

    # What people ask for

    async def start(self, request: Start, by: str) -> Update | Refusal:
        """Open an update, with "before" frozen as of now."""
        async with self._turn:
            now = self._clock.now()
            if under_way := self._under_way():
                return Refusal(f"update {under_way.id} ({under_way.version}) is still open: finish, roll back or cancel it first")
            update = await self._new_update(request, by, now)
            self._changed.clear()
            baselines = await before.freeze_all(self._store.path, self._targets, self._newest(), now, self._settings, update.parts)
            superseded = [w for w in self._open.values() if w.update.status is Status.OBSERVING]
            closed = [updates.supersede(w.update, now) for w in superseded]
            await self._settled()

            def step(connection: Connection) -> None:
                records.start_update(connection, update, ((t, b.to_dict()) for t, b in baselines.items()), closed, by)
                self.tell(connection, update, "start", by)
            await self._store.write(step)
            for watched, earlier in zip(superseded, closed, strict=True):
                self._moved(watched, earlier)
            if not self._open:                       # nobody has looked at samples since: none of them is of this update
                self._cursor = await self._store.read(samples.newest_id)
            await self._take_up(update, baselines, set(self._changed))
            self._note_left_out(update, sorted(self._changed & {target[0] for target in baselines}))
            self._remember(update)
            log.info("update started", update=update.id, version=update.version, by=by)
            return update

    async def act(self, id_: str, act: str, by: str, detail: str = "") -> Update | Refusal | None:
        """phase, finish, rollback or cancel, recorded with the name of whoever did it."""
        async with self._turn:
            watched = self._open.get(id_)
            found = watched.update if watched else next((u for u in self._known if u.id == id_), None)
            if found is None:
                return None
            now = self._clock.now()
            outcome = updates.act(found, act, detail, now)
            if isinstance(outcome, Refusal) or watched is None:
                return outcome if isinstance(outcome, Refusal) else Refusal(f"update {id_} is not watched any more")
            await self._settled()

            def step(connection: Connection) -> None:
                records.step_update(connection, outcome, now, by, act, detail)
                self.tell(connection, outcome, act, by)
            await self._store.write(step)
            self._moved(watched, outcome)
            log.info("update moved", act=act, update=id_, version=outcome.version, by=by, detail=detail or None)
            self.wake()
            return outcome

    async def _settled(self) -> None:
        """What the judge decided before must be stored before what a person says now. Raises StoreError."""
        try:
            await asyncio.wait_for(self._casebook.settled(), SETTLE_SECONDS)
        except TimeoutError:
            raise StoreError("the store cannot write just now") from None

    def facts(self, update: Update) -> dict[str, Any]:
        """All that is told of an update: its stored facts, the newest ruling, and when there will be a verdict."""
        watched = self._open.get(update.id)
        if watched:
            update = watched.update
            if watched.ruling and update.verdict == "watching":
                update = replace(update, ruling=watched.ruling.to_dict())
        ruling = update.ruling
        return update.to_dict() | {
            "reason": ruling.get("reason", ""), "sentence": ruling.get("sentence", ""), "missing": list(ruling.get("missing", ())),
            "signals": list(ruling.get("signals", ())), "decided_by": updates.decided_by(update, self._settings),
            "attributed_until": updates.attributed_until(update, self._settings),
        }

    def suspect(self, now: float) -> tuple[Update | None, bool]:
        """The update that an outage which begins now may belong to, and whether it is under way."""
        update = updates.suspect(self._newest(), self._settings, now)
        return update, update is not None and update.live

    def muted(self, now: float) -> bool:
        """Paging is held back: announced downtime, or a shadow run."""
        under_way = self._under_way()
        return updates.muted(under_way, now) or updates.shadowed(self._settings, now)

    # One step of one update

    async def _advance(self, watched: UnderWatch, now: float) -> None:
        update = watched.update
        if updates.expired(update, now):
            finished = updates.finish(update, now)
            if isinstance(finished, Update):
                self._commit(watched, finished, now, "expired")
            return
        if update.live and update.status is not Status.RECOVERING:
            await self._rule(watched, now)
        if watched.update.regressed or watched.update.status is Status.RECOVERING:
            self._recover(watched, now)
        self._let_go(watched)

    async def _rule(self, watched: UnderWatch, now: float) -> None:
        over = updates.observed_enough(watched.update, self._settings, now)
        news = over or watched.case.alarm is not watched.alarm
        if not news and now - watched.ruled_at < watched.ruling_took * RULING_SHARE:
            return
        begun, watched.alarm = self._clock.now(), watched.case.alarm
        final = watched.update.status is Status.OBSERVING
        ruling = await asyncio.to_thread(watched.case.ruling, final=final, over=over)      # 1.5 ms a target
        watched.ruling, watched.ruled_at, watched.ruling_took = ruling, now, self._clock.now() - begun
        update = updates.ruled(watched.update, ruling, now)
        if update.verdict != watched.update.verdict:
            self._decided(watched, update, now)
            return
        watched.update = update
        self._exporter.update(update)
        if update.regressed and (worse := on_ruling(self._casebook.open, update, self._urgency(update))):
            self._casebook.apply(worse)
        if now - watched.told_at >= TELL_SECONDS:
            watched.told_at = now
            self._casebook.apply([], also=lambda c: records.save_update(c, update))

    def _decided(self, watched: UnderWatch, update: Update, now: float) -> None:
        log.warning("verdict", verdict=update.verdict, update=update.id, version=update.version, sentence=update.ruling.get("sentence"))
        transitions = on_regression(self._casebook.open, update, self._urgency(update), now, lambda: new_id(now)) if update.regressed else []
        sentence = str(update.ruling.get("sentence", ""))
        self._casebook.apply(transitions, also=lambda c: records.step_update(c, update, now, "judge", update.verdict, sentence))
        watched.recent.clear()
        self._moved(watched, update)

    def _recover(self, watched: UnderWatch, now: float) -> None:
        """Back to normal ends the incident; a regressed update stays watched until then, also when it is closed itself."""
        update = watched.update
        why = watched.normal(self._targets, now)
        if why and update.recovered is None:
            update = updates.recovered(update, now)
            self._recovered(watched, update, why, now)
        elif why:
            self._casebook.apply(on_recovery(self._casebook.open, update, why, now))
        ended = updates.closes(update, self._settings, now)
        if ended:
            self._commit(watched, ended, now, "closed")

    def _recovered(self, watched: UnderWatch, update: Update, why: str, now: float) -> None:
        log.info("back to normal", update=update.id, why=why)
        self._casebook.apply(
            on_recovery(self._casebook.open, update, why, now), also=lambda c: records.step_update(c, update, now, "judge", "recovered", why))
        self._moved(watched, update)

    def _urgency(self, update: Update) -> Urgency:
        guilty = named_guilty(update)
        urgent = any(self._targets[t].urgency == "page" for t in guilty if t in self._targets)
        return "page" if urgent or not guilty else "ticket"

    def _commit(self, watched: UnderWatch, update: Update, now: float, act: str) -> None:
        def step(connection: Connection) -> None:
            records.step_update(connection, update, now, "tillwatch", act, "")
            self.tell(connection, update, act, "tillwatch")
        self._casebook.apply([], also=step)
        self._moved(watched, update)

    def _moved(self, watched: UnderWatch, update: Update) -> None:
        """The update has taken a step: what is judged, and how fast, follows."""
        watched.move(update)
        self._remember(update)
        self._let_go(watched)

    async def _take_up(self, update: Update, baselines: dict[Target, Baseline], left_out: Iterable[str] = ()) -> None:
        """Watch the update, beginning with the samples of its present segment that are stored already."""
        watched = UnderWatch(update, baselines, self._settings)
        watched.leave_out(left_out)
        self._open[update.id] = watched
        await watched.replay(self._store, self._cursor, self._clock.now())
        if update.live:
            self._hurried = True
            self._hurry()

    def _hurry(self) -> None:
        self._pace.hurry([t for t, j in self._targets.items() if j.fast < j.interval], math.inf)

    # Books

    def _note_left_out(self, update: Update, probes: Iterable[str]) -> None:
        """Kept with the update, so that a restart leaves them out too, and a report can say it."""
        now = self._clock.now()
        for probe in probes:
            self._casebook.apply([], also=lambda c, probe=probe: records.add_act(c, update.id, now, "tillwatch", LEFT_OUT, probe))  # type: ignore[misc]

    async def _new_update(self, request: Start, by: str, now: float) -> Update:
        today = day(now)
        number = 1 + await self._store.read(lambda c: records.updates_named(c, today))
        return Update(
            id=f"{today}-{number}", version=request.version, started=now, by=by, phase=request.phase, link=request.link, override=request.override,
            changes=tuple(Changed(c.name, c.version) for c in request.changes), segments=(now,),
            downtime_until=now + request.expect_downtime if request.expect_downtime else 0.0,
            expires=now + self._settings.expire_after + request.expect_downtime)

    def _newest(self) -> list[Update]:
        """The known updates, those that are watched with their newest ruling."""
        return [self._open[u.id].update if u.id in self._open else u for u in self._known]

    def _under_way(self) -> Update | None:
        unbuilt = (update for update in self._known if update.id not in self._open)
        return next((update for update in (*(w.update for w in self._open.values()), *unbuilt) if update.status is Status.OPEN), None)

    def _remember(self, update: Update) -> None:
        self._known = [update, *(u for u in self._known if u.id != update.id)]
        self._known.sort(key=lambda u: u.started, reverse=True)
        if self._known[0].id == update.id:
            self._exporter.update(update)

    def _let_go(self, watched: UnderWatch) -> None:
        """Watch a closed update no more, unless its incident waits for the shop to be normal again."""
        update = watched.update
        if update.live:
            return
        if not any(i.kind == "regression" and i.update == update.id for i in self._casebook.open):
            self._open.pop(update.id, None)
        if self._hurried and not any(w.update.live for w in self._open.values()):
            self._hurried = False                    # once: a baseline burst may follow, and must not be cut short
            self._pace.relax()

    def _mark_muted(self) -> None:
        """What pages nobody just now: everything, or what is silenced."""
        now = self._clock.now()
        muted = self.muted(now), frozenset(self.silenced(now))
        if muted != self._muted:
            self._muted = muted
            self._exporter.muted(muted[0])
            self._exporter.muted(True, muted[1])
