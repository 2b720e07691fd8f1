"""How the daemon is, for those who ask: health checks, systemd, and the outside service that shouts when the heartbeat stops."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from monitor import heartbeat
from monitor.alerts.dispatch import Dispatch
from monitor.casebook import Casebook
from monitor.clock import Clock
from monitor.heartbeat import Facts, Heartbeat
from monitor.scheduler import Scheduler
from monitor.settings import Config
from monitor.store import Store, StoreError
from monitor.watch import Watch

HEALTHY_SECONDS = 10.0        # a scheduler or a writer that has not moved for so long is not healthy


class Wellbeing:
    """Looks at the rooms. `blind()` gives since when (Unix s) no probe at all could measure, None while any can.

    `reloaded` is set when the configuration was changed.
    """

    def __init__(self, store: Store, scheduler: Scheduler, dispatch: Dispatch, watch: Watch, casebook: Casebook, clock: Clock,
                 beaten: Callable[[float], None] = lambda _at: None, blind: Callable[[], float | None] = lambda: None) -> None:
        self._store, self._scheduler, self._dispatch, self._watch = store, scheduler, dispatch, watch
        self._casebook, self._clock, self._beaten = casebook, clock, beaten
        self._blind = blind
        self.reloaded = asyncio.Event()

    def stuck(self) -> Mapping[str, float]:
        """For how many s each part has not moved. A full disk or a dead receiver is no standing still."""
        return {"scheduler": self._scheduler.behind, "store": self._store.behind, "receivers": self._dispatch.stuck, "watch": self._watch.stuck}

    def status(self) -> dict[str, Any]:
        """Healthy: runs are started and commits go through."""
        since = self._store.failing_since
        failing = time.monotonic() - since if since is not None else 0.0
        store_ok, on_time = max(failing, self._store.behind) < HEALTHY_SECONDS, self._scheduler.behind < HEALTHY_SECONDS
        why = f": {self._store.trouble}" if self._store.trouble else ""
        return {"healthy": on_time and store_ok, "ready": True,
                "store": "ok" if store_ok else f"cannot write{why}", "scheduler": "ok" if on_time else "behind"}

    def line(self, probes: int) -> str:
        """In a line, for people."""
        incidents, (update, _) = len(self._casebook.open), self._watch.suspect(self._clock.now())
        under_way = [f"update {update.version} {update.status.value}"] if update and update.live else []
        return "; ".join([f"watching {probes} probe{'s' * (probes != 1)}", *under_way, f"{incidents} incident{'s' * (incidents != 1)}"])

    async def beat(self, config: Callable[[], Config]) -> None:
        """The heartbeat as it is configured now, for ever."""
        while True:
            self.reloaded.clear()
            settings = config().heartbeat
            tasks = [asyncio.create_task(self.reloaded.wait())]
            if settings:
                pings = Heartbeat(settings, lambda: self._facts(config()), self._clock.now, self._beaten).run()
                tasks.append(asyncio.create_task(pings))  # type: ignore[arg-type]  # it returns nothing
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()                        # what went wrong in the heartbeat ends the daemon
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

    async def _facts(self, config: Config) -> Facts:
        now, unsent, fault = self._clock.now(), 0.0, self._store.trouble
        try:
            unsent = await self._store.read(lambda c: heartbeat.oldest_unsent(c, now))
        except StoreError as error:
            fault = fault or str(error)
        since = self._blind()
        interval = min(probe.interval for probe in config.probe)
        return Facts(overdue=self._scheduler.behind, interval=interval, commit=self._store.behind, fault=fault, unsent=unsent,
                     blind=max(0.0, now - since) if since is not None else 0.0)
