"""The composition root: enters the rooms in order, connects them, and hands a new configuration round."""

import asyncio
import faulthandler
import gc
import os
import sqlite3
import sys
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import structlog
from aiohttp import web

from monitor import chores, equipment, systemd, witnesses
from monitor import reload as reloading
from monitor.alerts import outbox
from monitor.alerts.dispatch import Dispatch
from monitor.alerts.dispatch import Reports as DeliveryReports
from monitor.alerts.page import Facts, ShopFacts
from monitor.before import Judged
from monitor.casebook import Casebook, Reports
from monitor.clock import Clock, new_id
from monitor.config import Config, ConfigError, Probe, secrets
from monitor.exporter import Exporter
from monitor.health import Health, Target
from monitor.incidents import Incident
from monitor.intake import Intake
from monitor.jobs import Job
from monitor.life import DiedError, Life, starting, tell_systemd
from monitor.notices import notice
from monitor.scheduler import Hooks, Scheduler
from monitor.selfwatch import SelfWatch, Views
from monitor.silences import Silences
from monitor.store import Store, StoreError, records, samples
from monitor.targets import job, judged, of_device, watched, watches
from monitor.updates import Update
from monitor.uplink import Uplink
from monitor.watch import Pace, Watch
from monitor.web import openapi
from monitor.web.api import Api
from monitor.web.artifacts import ArtifactPages
from monitor.web.auth import Guard, Tokens, local_token
from monitor.web.operate import Operate
from monitor.web.pages import Insight, Pages
from monitor.web.probe import OnDemand
from monitor.web.server import Listener
from monitor.wellbeing import Wellbeing
from probes.fields import SecretError
from probes.sample import Sample
from probes.table import PROBES

log = structlog.get_logger()

SETTLE_SECONDS = 1.5
FAR = 1e11                    # Unix s; no run begins later
RECEIVERS_SECONDS = 0.5       # for which a reload waits for them
RECEIVERS_RETRY_SECONDS = 1.0
__all__ = ["Daemon", "DiedError", "run"]


class Daemon:
    """One daemon for one shop. `await run()` until a signal, or until something in it that must not die has died."""

    def __init__(self, config: Config) -> None:
        self._life, self._clock = Life(), Clock()
        self._take_config(config)
        self._scheduler: Scheduler | None = None
        self._install = ""
        self._refused = ""                               # why the newest configuration was not taken
        self._news = False
        self._trouble = ""                               # of the store, as it was last logged
        self._reloading = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._following: asyncio.Future[Any] = asyncio.get_running_loop().create_future()      # receivers, to a new configuration

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises SecretError, StoreError or OSError when it cannot start, DiedError when it ended itself."""
        self._life.hear(hangup=self._hung_up)
        await self._life.serve(self._enter, self._ready)

    # Beginning

    async def _enter(self) -> None:
        config, life = self._config, self._life
        for where, secret in secrets(config):
            try:
                secret.reveal()
            except SecretError as error:
                raise SecretError(f"{where}: {error}") from None
        config.daemon.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with starting():
            self._store = await life.enter("store", Store(config.daemon.state_dir))
            self._clock.start(await self._store.read(_newest))
            self._exporter = Exporter(config.shop.name, self._probes)
            self._install = await self._store.write(lambda c: records.install_id(c, new_id(self._clock.now())), essential=True)
            await reloading.note_measured(self._store, config, self._clock.now())
            self._store.on_failure = self._store_failed
            self._build()
            await self._take_up()
            self._clients = await life.enter("clients", equipment.for_daemon(config, self._store, self._clock))
            await life.enter("receivers", self._dispatch)
            life.beside("casebook", self._casebook.run())
            life.before_leaving("incidents", self._casebook_settled)
            await self._start_probing()
            await self._watch.load()
        self._store.on_commit = self._committed
        self._begin_beside()
        self._listener = await life.enter("web", Listener(config.web, self._routes()))

    def _build(self) -> None:
        config, exporter, store, clock = self._config, self._exporter, self._store, self._clock
        self._casebook = Casebook(store, config.receiver, clock, Reports(
            committed=lambda: self._dispatch.wake(),  # noqa: PLW0108 - it is made below
            changed=exporter.incidents, paged=exporter.own.paged))
        self._intake = Intake(self._watched(), store, exporter, self._casebook, clock)
        self._silences = Silences(store, clock, self._probes)
        self._watch = Watch(config.update, self._judged(), store, self._casebook, exporter, clock, Pace(hurry=self._hurry, relax=self._relax))
        self._uplink = Uplink(witnesses.witnesses(config), clock, witnesses.near(config))
        self._self_watch = SelfWatch(store, self._casebook, clock, Views(
            overdue=lambda: self._scheduler.behind if self._scheduler else 0.0,
            overloaded=lambda: self._scheduler is not None and self._scheduler.overloaded, refused=lambda: self._refused,
            lost=lambda: self._uplink.lost))
        self._casebook.muted = lambda incident, now: self._watch.muted(now) or self._silences.muted(incident, now)
        self._watch.silenced, self._watch.tell = self._silences.targets, self._tell_of_update
        self._intake.suspect, self._intake.note = self._watch.suspect, self._uplink.note
        self._dispatch = Dispatch(store, config.receiver, clock, self._facts, DeliveryReports(attempted=self._attempted), self._held,
                                  lost=lambda: self._uplink.lost)

    async def _take_up(self) -> None:
        """Go on where the last run ended."""
        await self._silences.load()
        await self._casebook.load()
        await self._watch.know()
        for receiver, at in (await self._store.read(outbox.last_success)).items():
            self._exporter.own.succeeded(receiver, at)
        now = self._clock.now()
        stored = await self._store.read(records.load_health)
        self._intake.take_up({target: _not_ahead(health, now) for target, health in stored.items()}, await self._store.read(samples.checkpoints))

    async def _start_probing(self) -> None:
        own = self._exporter.own
        hooks = Hooks(accept=self._intake.accept, lateness=own.late, missed=self._exporter.missed, loop_lag=own.loop_lag.observe,
                      stood_still=_stood_still)
        self._scheduler = await self._life.enter(
            "probes", Scheduler(self._jobs(), self._config.daemon.max_concurrency, self._probe, hooks, self._clock))
        self._wellbeing = Wellbeing(self._store, self._scheduler, self._dispatch, self._watch, self._casebook, self._clock, self._exporter.own.beaten,
                                    self._intake.blind)
        self._life.beside("scheduler", self._scheduler.failed())

    def _begin_beside(self) -> None:
        beside, exporter, clock = self._life.beside, self._exporter, self._clock
        beside("watch", self._watch.run())
        beside("self-watch", self._self_watch.run())
        beside("uplink", self._uplink.run())
        beside("heartbeat", self._wellbeing.beat(lambda: self._config))
        beside("housekeeping", chores.keep_house(
            self._store, exporter, clock, lambda: self._config.receiver, lambda: self._config.daemon.retention,
            lambda now: equipment.sweep(self._config, now)))
        beside("bursts", chores.run_bursts(clock, lambda: self._config.update.bursts_per_day, self._burst))
        beside("clock", chores.follow_clock(clock, exporter))
        beside("systemd", tell_systemd(self._wellbeing.stuck, self._status_line))

    def _routes(self) -> list[web.RouteDef]:
        config = self._config
        self._guard = guard = Guard(_tokens(config), open_reads=config.web.tls is None)
        api = Api(store=self._store, exporter=self._exporter, operations=self._watch, guard=guard, clock=self._clock, status=self._wellbeing.status,
                  targets=self._targets, shop=config.shop.name, reload=self.reload, base=lambda: self._config.web.base)
        operate = Operate(casebook=self._casebook, silences=self._silences, store=self._store, guard=guard, clock=self._clock,
                          rated=self._exporter.own.rated)
        on_demand = OnDemand(lambda: self._config.probe, self._clients, guard)
        pages = Pages(store=self._store, operations=self._watch, guard=guard, clock=self._clock, insight=Insight(
            self._targets, lambda: self._casebook.open, self._facts, self._wellbeing.status))
        evidence = ArtifactPages(lambda: equipment.artifacts(self._config), guard)
        return [*api.routes(), *operate.routes(), *on_demand.routes(), *pages.routes(), *evidence.routes(), *openapi.routes()]

    def _ready(self) -> None:
        gc.collect()
        gc.freeze()
        self._taken()
        config = self._config
        log.info("ready", shop=config.shop.name, probes=len(self._probes), listen=f"{config.web.host}:{self._listener.port}", pid=os.getpid())
        systemd.ready(self._status_line())

    # Another configuration

    def _hung_up(self) -> None:
        if not self._life.serving:
            log.warning("SIGHUP ignored: starting, or stopping")
            return
        self._begin(self.reload(), "reload")

    async def reload(self) -> tuple[bool, dict[str, Any]]:
        """Take the configuration as its file has it now, or keep the old one: whether it was taken, and what changed or what is wrong."""
        async with self._reloading:
            systemd.reloading()
            try:
                change = await self._read_and_take()
            except (ConfigError, OSError, SecretError) as error:
                return False, self._not_taken(error)
            finally:
                if self._life.serving:                   # else STOPPING was the last word
                    systemd.ready(self._status_line())
            self._following.cancel()
            self._following = self._begin(self._change_receivers(), "receivers")
            await asyncio.wait([self._following], timeout=RECEIVERS_SECONDS)
            return True, change.to_dict()

    async def _read_and_take(self) -> reloading.Change:
        """Raises ConfigError, OSError or SecretError; then nothing has changed."""
        path, old = self._config.path, self._config
        change = await reloading.within(path, lambda: reloading.read(path, old))
        tokens = await reloading.within(path, lambda: _tokens(change.config))
        self._listener.change(change.config.web)
        try:
            self._change(change, tokens)                 # in one turn of the event loop
        except BaseException as error:
            self._life.fail(error)                       # half of a configuration is worse than none
            raise
        log.info("configuration taken", added=change.added, removed=change.removed, changed=change.changed)
        return change

    def _change(self, change: reloading.Change, tokens: Tokens) -> None:
        config = change.config
        self._take_config(config)
        self._guard.tokens = tokens
        self._exporter.change(self._probes)
        self._casebook.change(config.receiver)
        self._silences.change(self._probes)
        self._intake.change(self._watched())
        if self._scheduler:
            self._scheduler.change(self._jobs(), config.daemon.max_concurrency)
        self._watch.change(config.update, self._judged(), change.other)
        self._begin(self._clients.retain({probe.name for probe in config.probe}), "what probes keep open")
        self._begin(equipment.change(self._clients, config), "the browser")
        self._begin(reloading.note_measured(self._store, config, self._clock.now()), "what is measured")
        self._uplink.change(witnesses.witnesses(config), witnesses.near(config))
        self._wellbeing.reloaded.set()
        self._taken()

    async def _change_receivers(self) -> None:
        """Their lanes need the store; where it cannot write just now, they follow as soon as it can."""
        while True:
            try:
                await self._dispatch.change(self._config.receiver)
            except StoreError as error:
                log.error("receivers cannot be changed yet", error=str(error))  # noqa: TRY400 - expected: no trace
                await asyncio.sleep(RECEIVERS_RETRY_SECONDS)
            else:
                return

    def _begin(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` until it ends by itself; what flies out of it ends the daemon."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._life.fail(error)

    def _taken(self) -> None:
        self._refused = ""
        self._exporter.own.reload_ok.set(1)
        self._exporter.own.reload_at.set(self._clock.now())

    def _not_taken(self, error: ConfigError | OSError | SecretError) -> dict[str, Any]:
        problems = error.problems if isinstance(error, ConfigError) else []
        self._refused = reloading.sentence(problems) or str(error)
        self._exporter.own.reload_ok.set(0)
        log.error("configuration not taken", problems=[str(p) for p in problems] or [str(error)])
        return {"detail": f"the configuration was not taken, the old one stays: {self._refused}", "problems": [
            {"file": p.file, "line": p.line, "path": p.path, "message": p.message} for p in problems]}

    # What the configuration is to each room

    def _take_config(self, config: Config) -> None:
        self._config = config
        self._probes: dict[Target, Probe] = {
            target: of_device(probe, target[1]) for probe in config.probe for target in watches(probe)}

    def _watched(self) -> dict[Target, Any]:
        return {target: watched(probe) for target, probe in self._probes.items()}

    def _judged(self) -> dict[Target, Judged]:
        return {target: judged(target, probe, self._config.update, self._config.probe) for target, probe in self._probes.items()}

    def _jobs(self) -> list[Job]:
        return [job(target, probe, self._config.update.interval_factor) for target, probe in self._probes.items()]

    def _facts(self, _incident: Incident | None = None) -> Facts:
        config = self._config
        shop = ShopFacts(config.shop.name, config.shop.url, config.shop.environment, config.shop.currency)
        means = {probe.name: probe.means for probe in config.probe if probe.means}
        return Facts(shop, config.web.base, tuple(self._intake.working()), means, install=self._install)

    # What the rooms ask for and tell

    async def _probe(self, target: Target) -> Sample:
        probe = self._probes[target]
        return await PROBES[probe.kind].probe(probe, self._clients, self._intake.checkpoints.get(target))

    def _hurry(self, targets: Any, seconds: float) -> None:
        if self._scheduler:
            self._scheduler.hurry(targets, seconds)

    def _relax(self) -> None:
        if self._scheduler:
            self._scheduler.relax()

    def _burst(self, seconds: float) -> None:
        self._hurry(list(self._probes), seconds)

    def _held(self, now: float) -> list[str]:
        return [incident.id for incident in self._casebook.open if self._casebook.muted(incident, now)]

    def _tell_of_update(self, connection: sqlite3.Connection, update: Update, act: str, by: str) -> None:
        """In the transaction of the update's step."""
        if news := notice(update, act, by, now := self._clock.now()):
            outbox.notify(connection, news, self._config.receiver, now)
            self._news = True

    def _committed(self, seconds: float, _written: int) -> None:
        self._exporter.own.store_commit.observe(seconds)
        if self._trouble and not self._store.trouble:
            log.info("the store can write again", was=self._trouble)
            self._trouble = ""
        self._watch.wake()
        if self._news:                                   # of an update, which no incident's commit announces
            self._news = False
            self._dispatch.wake()

    def _store_failed(self, text: str) -> None:
        """Tried again every second, it fails every second: said once for each thing that is wrong."""
        self._exporter.own.store_failures.inc()
        if (trouble := self._store.trouble) and trouble != self._trouble:
            log.error("the store cannot write", error=text)
            self._trouble = trouble

    def _attempted(self, receiver: str, outcome: str, _seconds: float) -> None:
        self._exporter.own.attempted(receiver, outcome, self._clock.now())

    async def _casebook_settled(self) -> None:
        try:
            await asyncio.wait_for(self._casebook.settled(), SETTLE_SECONDS)
        except TimeoutError:
            log.error("incidents were not committed before the end")  # noqa: TRY400 - a time-out has no trace worth reading

    def _status_line(self) -> str:
        """For `systemctl status`."""
        return self._wellbeing.line(len(self._config.probe)) + ("; the newest configuration was not taken" if self._refused else "")

    def _targets(self) -> list[dict[str, Any]]:
        return [{"probe": t[0], "device": t[1], "cohort": t[2], "kind": p.kind, "critical": p.critical, "control": p.control}
                | self._intake.describe(t) for t, p in self._probes.items()]


def _stood_still(seconds: float) -> None:
    log.warning("the machine, or this process, stood still", seconds=round(seconds, 1))


def _newest(connection: sqlite3.Connection) -> float:
    """When the newest run that is stored began (Unix s)."""
    return next((stored.sample.started for stored in samples.backwards(connection, FAR, 0.0)), 0.0)


def _not_ahead(health: Health, now: float) -> Health:
    """What was stored under a clock that was ahead has begun now at the latest: else it would never have lasted."""
    moments = health.failing_since or 0.0, health.failed_at or 0.0, health.unmeasured_since or 0.0, *health.downs
    if max(moments) <= now:
        return health
    return replace(
        health, failing_since=_earlier(health.failing_since, now), failed_at=_earlier(health.failed_at, now),
        unmeasured_since=_earlier(health.unmeasured_since, now), downs=tuple(at for at in health.downs if at <= now))


def _earlier(at: float | None, now: float) -> float | None:
    return None if at is None else min(at, now)


def _tokens(config: Config) -> Tokens:
    return Tokens(config.token, local_token(config.daemon.state_dir))


def run(config: Config) -> None:
    """Run the daemon in the foreground until it is told to stop."""
    async def main() -> None:
        await Daemon(config).run()
    faulthandler.enable()                # systemd's watchdog ends a daemon that hangs with SIGABRT: all stacks go to the journal
    try:
        import uvloop
    except ImportError:                  # works on asyncio's own loop too, with more CPU
        asyncio.run(main())
    else:
        sys.setswitchinterval(0.001)     # threads that read or freeze must not hold the loop up
        uvloop.run(main())
