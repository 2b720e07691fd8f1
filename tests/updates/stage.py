"""A shop under watch without its daemon: a real store, real books, a clock moved by hand, made-up runs.

A run every 30 s of each probe goes through the one door, Intake.accept; after each round the watch ticks.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from monitor.alerts.delivery import ReceiverSettings
from monitor.alerts.table import RECEIVERS
from monitor.before import Judged
from monitor.casebook import Casebook, Reports
from monitor.clock import ManualClock
from monitor.exporter import Exporter
from monitor.health import Rule, Target
from monitor.incidents import Incident
from monitor.intake import Intake, Watched
from monitor.judge.signals import Margin, Subject
from monitor.silences import Silences
from monitor.store import Store, records
from monitor.updates import Refusal, Update, UpdateSettings
from monitor.watch import Pace, Watch
from monitor.web.api import StartRequest
from probes.sample import Outcome, Sample, Trigger
from probes.table import PROBES

SPACING = 30.0
BASELINE = 200                    # runs of each probe before an update
WIDE = {"success": 0.25, "p50": 0.5, "p95": 1.0}     # big harm only, so that a pass needs few runs
HOME, PAY, PSP = ("home", "", ""), ("pay", "", ""), ("psp", "", "")


def receiver(**values: Any) -> ReceiverSettings:
    given = {"name": "hook", "kind": "webhook", "url": "http://127.0.0.1:9/", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
    return RECEIVERS["webhook"].settings.model_validate(given | values, context={"base": Path("/")})


@dataclass
class Asked(Pace):
    """A pace that only writes down what it is asked for."""

    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hurry = lambda targets, seconds: self.log.append(f"hurry {','.join(t[0] for t in targets)} {seconds}")
        self.relax = lambda: self.log.append("relax")


@dataclass(frozen=True)
class Actor:
    """A probe of the made-up shop."""

    name: str
    critical: bool = True
    control: bool = False
    urgency: Any = "page"
    fast: float = SPACING
    interval: float = SPACING

    @property
    def target(self) -> Target:
        return self.name, "", ""

    def judged(self) -> Judged:
        subject = Subject(self.name, "", "", "http", self.critical, self.control, Margin(**WIDE), PROBES["http"].signals)
        return Judged(subject, self.interval, self.fast, self.urgency)

    def watched(self) -> Watched:
        return Watched(Rule(failures=3, of=5, confirm="1m", urgency=self.urgency), f"{self.name}.example", self.critical, self.control)


SHOP = (Actor("home", critical=False), Actor("pay"))


class Stage:
    """Everything between Intake.accept and the outbox. `restart` throws the objects away and keeps the store's file."""

    def __init__(self, directory: Path, actors: Sequence[Actor] = SHOP, receivers: Sequence[ReceiverSettings] = (), **settings: Any) -> None:
        self.directory, self.actors, self.receivers = directory, actors, tuple(receivers) or (receiver(),)
        self.settings = UpdateSettings.model_validate({"warm_up": "2m", "observe": "1h", "margin": WIDE, "interval_factor": 1.0} | settings)
        self.clock, self.pace, self.random = ManualClock(), Asked(), Random(7)
        self.paged: list[str] = []

    async def open(self) -> "Stage":
        self.rooms = AsyncExitStack()
        self.store = store = await self.rooms.enter_async_context(Store(self.directory))
        self.exporter = Exporter("till", [a.target for a in self.actors])
        self.casebook = Casebook(store, self.receivers, self.clock, Reports(changed=self.exporter.incidents, paged=self.paged.append))
        self.intake = Intake({a.target: a.watched() for a in self.actors}, store, self.exporter, self.casebook, self.clock)
        self.watch = Watch(self.settings, {a.target: a.judged() for a in self.actors}, store, self.casebook, self.exporter, self.clock, self.pace)
        self.silences = Silences(store, self.clock, (a.target for a in self.actors))
        self.casebook.muted = lambda incident, now: self.watch.muted(now) or self.silences.muted(incident, now)
        self.intake.suspect, self.watch.silenced = self.watch.suspect, self.silences.targets
        await self.silences.load()
        await self.casebook.load()
        self.intake.take_up(await store.read(records.load_health), {})
        await self.watch.load()
        self.committing = asyncio.create_task(self.casebook.run())
        return self

    async def close(self) -> None:
        await self.casebook.settled()
        self.committing.cancel()
        with suppress(asyncio.CancelledError):
            await self.committing
        await self.rooms.aclose()

    async def restart(self) -> None:
        await self.close()
        await self.open()

    # What the shop does

    def run(self, name: str, *, seconds: float = 0.2, **values: Any) -> Sample:
        seconds *= 2.718281828 ** self.random.gauss(0, 0.1)
        values = {"outcome": Outcome.OK, "spacing": SPACING, "started": self.clock.at, "ended": self.clock.at + seconds} | values
        return Sample(probe=name, seconds=seconds, **values)

    async def past(self, rounds: int = BASELINE, **values: Any) -> None:
        """Good runs, and nobody looks at them one by one."""
        for _ in range(rounds):
            for actor in self.actors:
                self.intake.accept(self.run(actor.name, **values))
            self.clock.at += SPACING
        await self.store.write(lambda _: None)

    async def live(self, rounds: int, failing: Iterable[str] = (), slow: Iterable[str] = (), step: float = SPACING, **values: Any) -> None:
        """Rounds of runs, each looked at; `failing` probes fail, `slow` ones take three times as long."""
        for _ in range(rounds):
            for actor in self.actors:
                how = {"outcome": Outcome.FAILED, "reason": "status", "evidence": "HTTP 500"} if actor.name in failing else {}
                self.intake.accept(self.run(actor.name, seconds=0.6 if actor.name in slow else 0.2, **values | how))
            self.clock.at += step
            await self.look()

    async def look(self) -> None:
        await self.store.write(lambda _: None)
        await self.watch.tick()
        await self.casebook.settled()

    async def until(self, what: str, rounds: int = 60, **how: Any) -> int:
        """Rounds until the newest update's verdict or status is `what`."""
        for number in range(1, rounds + 1):
            await self.live(1, **how)
            update = await self.newest()
            if what in {update.verdict, update.status.value}:
                return number
        raise AssertionError(f"not {what} within {rounds} rounds: {update.verdict}, {update.status.value}: {self.watch.facts(update)['sentence']}")

    # What people do

    async def start(self, version: str = "2.0", **request: Any) -> Update:
        started = await self.watch.start(StartRequest.model_validate({"version": version} | request), "ci")
        assert isinstance(started, Update), started
        return started

    async def act(self, act: str, detail: str = "") -> Update:
        moved = await self.watch.act((await self.newest()).id, act, "ci", detail)
        assert isinstance(moved, Update), moved
        return moved

    async def refused(self, act: str, id_: str = "") -> str:
        answer = await self.watch.act(id_ or (await self.newest()).id, act, "ci")
        assert isinstance(answer, Refusal), answer
        return answer.reason

    # What is left in the store

    async def newest(self) -> Update:
        await self.casebook.settled()
        update = await self.store.read(records.newest_update)
        assert update is not None
        return update

    async def update(self, id_: str) -> Update:
        await self.casebook.settled()
        update = await self.store.read(lambda c: records.update(c, id_))
        assert update is not None
        return update

    async def incidents(self) -> list[Incident]:
        """Oldest first."""
        await self.casebook.settled()
        return (await self.store.read(records.incidents))[::-1]

    async def outbox(self) -> list[tuple[str, str]]:
        """(kind of message, kind of incident) in their order."""
        await self.casebook.settled()
        rows = await self.store.read(lambda c: c.execute("SELECT kind, data FROM outbox ORDER BY created, seq").fetchall())
        return [(kind, json.loads(data)["kind"]) for kind, data in rows]

    async def acts(self, id_: str = "") -> list[str]:
        id_ = id_ or (await self.newest()).id
        return [a["act"] for a in await self.store.read(lambda c: records.acts(c, id_))]


BURST, RECHECK, MANUAL = Trigger.BURST, Trigger.RECHECK, Trigger.MANUAL
Make = Callable[..., Awaitable[Stage]]
