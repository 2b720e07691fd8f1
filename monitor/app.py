"""The composition root: enters the rooms in order, connects them, and leaves them in reverse."""

import asyncio
import gc
import os
import signal
import sqlite3
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any

import structlog
from aiohttp import web

from monitor.alerts import outbox
from monitor.alerts.dispatch import Dispatch
from monitor.alerts.dispatch import Reports as DeliveryReports
from monitor.alerts.page import Facts, ShopFacts
from monitor.casebook import Casebook, Reports
from monitor.clock import Clock, new_id
from monitor.config import Config, secrets
from monitor.exporter import Exporter
from monitor.health import Target
from monitor.intake import Intake
from monitor.scheduler import Hooks, Scheduler
from monitor.store import Store, StoreError, records, samples
from monitor.targets import fast_spacing, job, judged, watched, watches
from monitor.watch import Pace, Watch
from monitor.web.api import Api
from monitor.web.auth import Guard, Tokens, local_token
from monitor.web.server import serve
from probes.clients import Clients
from probes.fields import SecretError
from probes.sample import Sample
from probes.table import PROBES

log = structlog.get_logger()

BURST_SECONDS = 300.0
RETENTION_SECONDS = 60.0
GAUGE_SECONDS = 5.0
HEALTHY_SECONDS = 10.0        # a scheduler or a writer that has not moved for so long is not healthy


class DiedError(Exception):
    """The daemon ended itself: it could not go on with what it promises."""


class Daemon:
    """One daemon for one shop. `await run()` until a signal, or until something in it that must not die has died."""

    def __init__(self, config: Config) -> None:
        self._config, self._clock = config, Clock()
        self._probes = {target: probe for probe in config.probe for target in watches(probe)}
        self._stop, self._dead = asyncio.Event(), asyncio.Event()
        self._failure: BaseException | None = None
        self._scheduler: Scheduler | None = None

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises SecretError, StoreError or OSError when it cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: log.warning("SIGHUP ignored: a reload needs a restart so far"))
        loop.set_exception_handler(self._unexpected)
        try:
            async with AsyncExitStack() as rooms:
                await self._enter(rooms)
                gc.collect()
                gc.freeze()
                await self._until_stopped()
                log.info("stopping")
        except BaseExceptionGroup as group:          # a room with a task group wraps what flies through it
            raise _alone(group) from None
        if self._failure:
            raise DiedError(f"something that must not die has died: {self._failure}") from self._failure

    async def _enter(self, rooms: AsyncExitStack) -> None:
        config = self._config
        for where, secret in secrets(config):
            try:
                secret.reveal()
            except SecretError as error:
                raise SecretError(f"{where}: {error}") from None
        config.daemon.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._store = store = await rooms.enter_async_context(Store(config.daemon.state_dir))
        self._exporter = exporter = Exporter(config.shop.name, self._probes)
        await store.write(lambda c: records.install_id(c, new_id(self._clock.now())))
        store.on_failure = self._store_failed
        self._build()
        await self._casebook.load()
        for receiver, at in (await store.read(outbox.last_success)).items():
            exporter.own.succeeded(receiver, at)
        self._intake.take_up(await store.read(records.load_health))
        self._checkpoints = await store.read(samples.checkpoints)
        self._clients = await rooms.enter_async_context(Clients())
        await rooms.enter_async_context(self._dispatch)
        await self._background(rooms, "casebook", self._casebook.run())
        rooms.push_async_callback(self._casebook_settled)
        await self._start_probing(rooms)
        await self._watch.load()
        store.on_commit = self._committed
        await self._background(rooms, "watch", self._watch.run())
        await self._background(rooms, "housekeeping", self._housekeeping())
        await self._background(rooms, "bursts", self._bursts())
        port = await rooms.enter_async_context(serve(config.web, self._routes()))
        exporter.own.reload_ok.set(1)
        exporter.own.reload_at.set(self._clock.now())
        log.info("ready", shop=config.shop.name, probes=len(self._probes), listen=f"{config.web.host}:{port}", pid=os.getpid())

    def _build(self) -> None:
        config, exporter = self._config, self._exporter
        self._casebook = Casebook(self._store, config.receiver, self._clock, Reports(
            committed=lambda: self._dispatch.wake(),  # noqa: PLW0108 - it is made below
            changed=exporter.incidents, paged=exporter.own.paged))
        self._intake = Intake({t: watched(p) for t, p in self._probes.items()}, self._store, exporter, self._casebook, self._clock)
        pace = Pace(hurry=self._hurry, relax=self._relax)
        subjects = {t: judged(t, p, config.update) for t, p in self._probes.items()}
        self._watch = Watch(config.update, subjects, self._store, self._casebook, exporter, self._clock, pace)
        self._casebook.muted, self._intake.suspect = self._watch.muted, self._watch.suspect
        shop = ShopFacts(config.shop.name, config.shop.url, config.shop.environment, config.shop.currency)
        means = {probe.name: probe.means for probe in config.probe if probe.means}
        self._dispatch = Dispatch(
            self._store, config.receiver, self._clock, lambda _incident: Facts(shop, config.web.base, tuple(self._intake.working()), means),
            DeliveryReports(attempted=self._attempted))

    async def _start_probing(self, rooms: AsyncExitStack) -> None:
        own = self._exporter.own
        hooks = Hooks(accept=self._intake.accept, lateness=own.late, missed=self._exporter.missed, loop_lag=own.loop_lag.observe)
        jobs = [job(target, probe, self._config.update.interval_factor) for target, probe in self._probes.items()]
        self._scheduler = await rooms.enter_async_context(Scheduler(jobs, self._config.daemon.max_concurrency, self._probe, hooks, self._clock))
        await self._background(rooms, "scheduler", self._scheduler.failed())

    async def _probe(self, target: Target) -> Sample:
        probe = self._probes[target]
        return await PROBES[probe.kind].probe(probe, self._clients, self._checkpoints.get(target))

    def _routes(self) -> list[web.RouteDef]:
        config = self._config
        guard = Guard(Tokens(config.token, local_token(config.daemon.state_dir)), open_reads=config.web.tls is None)
        return Api(
            store=self._store, exporter=self._exporter, operations=self._watch, guard=guard, clock=self._clock, status=self._status,
            targets=self._targets, shop=config.shop.name).routes()

    # Life

    async def _background(self, rooms: AsyncExitStack, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside the rest until its room is left. Its death ends the daemon."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)

        async def leave() -> None:
            task.cancel()
            await asyncio.wait([task])
        rooms.push_async_callback(leave)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and not self._stop.is_set():
            self._fail(task.exception() or RuntimeError(f"{task.get_name()} ended"))

    def _unexpected(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception that nobody caught, in a callback: the state cannot be trusted, so systemd shall start anew."""
        log.error("unexpected error", what=context.get("message"), exc_info=context.get("exception"))
        if isinstance(context.get("exception"), Exception) and "handle" in context:
            self._fail(context["exception"])

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._dead.set()

    async def _until_stopped(self) -> None:
        waits = [asyncio.create_task(event.wait()) for event in (self._stop, self._dead)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _casebook_settled(self) -> None:
        try:
            await asyncio.wait_for(self._casebook.settled(), 2.0)
        except TimeoutError:
            log.error("incidents were not committed before the end")  # noqa: TRY400 - a time-out has no trace worth reading

    # What the rooms tell

    def _committed(self, seconds: float, _written: int) -> None:
        self._exporter.own.store_commit.observe(seconds)
        self._watch.wake()

    def _store_failed(self, text: str) -> None:
        self._exporter.own.store_failures.inc()
        log.error("the store cannot write", error=text)

    def _attempted(self, receiver: str, outcome: str, _seconds: float) -> None:
        self._exporter.own.attempted(receiver, outcome, self._clock.now())

    def _hurry(self, targets: Any, seconds: float) -> None:
        if self._scheduler:
            self._scheduler.hurry(targets, seconds)

    def _relax(self) -> None:
        if self._scheduler:
            self._scheduler.relax()

    def _status(self) -> dict[str, Any]:
        """Healthy: runs are started and commits go through."""
        store_ok = self._store.behind < HEALTHY_SECONDS
        on_time = self._scheduler is not None and self._scheduler.behind < HEALTHY_SECONDS
        return {"healthy": on_time and store_ok, "ready": self._scheduler is not None,
                "store": "ok" if store_ok else "cannot write", "scheduler": "ok" if on_time else "behind"}

    def _targets(self) -> list[dict[str, Any]]:
        return [{"probe": t[0], "device": t[1], "cohort": t[2], "kind": p.kind, "critical": p.critical, "control": p.control}
                | self._intake.describe(t) for t, p in self._probes.items()]

    # Chores

    async def _housekeeping(self) -> None:
        """Delete what is too old in small bites, and keep the slow gauges fresh."""
        while True:
            await asyncio.sleep(GAUGE_SECONDS)
            with suppress(StoreError):               # locked or full: said by whoever had to write; chores can wait
                await self._chores(self._clock.now())

    async def _chores(self, now: float) -> None:
        names, before = [r.name for r in self._config.receiver], now - self._config.daemon.retention
        self._exporter.own.waiting(await self._store.read(lambda c: outbox.waiting(c, names, now)))
        if await self._store.read(lambda c: samples.oldest(c) < before):
            await self._store.write(lambda c: _drop_old(c, before))

    async def _bursts(self) -> None:
        """A few times a day the faster spacing of an update for a while, so that there is a "before" at that spacing."""
        settings = self._config.update
        hurried = [t for t, p in self._probes.items() if fast_spacing(p, settings.interval_factor) < p.interval]
        if not hurried or not settings.bursts_per_day:
            await asyncio.Event().wait()
        while True:
            period = 86400 / settings.bursts_per_day
            await asyncio.sleep(period - self._clock.now() % period)      # by the wall clock: a restart costs no burst
            self._hurry(hurried, BURST_SECONDS)


def _drop_old(connection: sqlite3.Connection, before: float) -> None:
    samples.drop_old(connection, before)
    outbox.drop_old(connection, before)
    connection.execute("PRAGMA incremental_vacuum(500)").fetchall()      # pages; the file shrinks in small bites too


def _alone(error: BaseException) -> BaseException:
    """The error itself, when nothing else went wrong with it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def run(config: Config) -> None:
    """Run the daemon in the foreground until it is told to stop."""
    async def main() -> None:
        await Daemon(config).run()
    try:
        import uvloop
    except ImportError:                  # works on asyncio's own loop too, with more CPU
        asyncio.run(main())
    else:
        sys.setswitchinterval(0.001)     # threads that read or freeze must not hold the loop up
        uvloop.run(main())
