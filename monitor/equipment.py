"""What checkout probes need beside the common means: the browser worker, a place for evidence, a record of orders."""

from pathlib import Path

from monitor.clock import Clock
from monitor.config import Config
from monitor.store import Store
from monitor.store.guard import StoredGuard
from probes.artifacts import Artifacts
from probes.checkout.limits import Guard, OneRun
from probes.checkout.link import Link
from probes.checkout.probe import Manner, Profiles
from probes.clients import Clients

ARTIFACTS = "artifacts"              # folder of the evidence, in the state directory
PROFILES = "profiles"                # folder of what returning customers' browsers keep, there too


def artifacts(config: Config) -> Artifacts:
    """The folder in which the daemon keeps evidence."""
    return Artifacts(config.daemon.state_dir / ARTIFACTS, config.browser.artifacts)


def sweep(config: Config, now: float) -> None:
    """Take away evidence that is too old; `now` in Unix s."""
    artifacts(config).sweep(now, config.browser.artifacts_for)


def for_daemon(config: Config, store: Store, clock: Clock) -> Clients:
    """The means of a daemon's probes. The browser is started by the first run that needs it."""
    clients = Clients()
    clients.provide(Link, Link(config.browser))
    clients.provide(Artifacts, artifacts(config))
    clients.provide(Profiles, Profiles(config.daemon.state_dir / PROFILES))
    clients.provide(Guard, StoredGuard(store, clock))  # type: ignore[type-abstract]
    return clients


async def change(clients: Clients, config: Config) -> None:
    """Follow a new [browser]; the run under way in the old one is given up."""
    link = clients.find(Link)
    clients.provide(Artifacts, artifacts(config))
    if link is None or link.settings != config.browser:
        clients.provide(Link, Link(config.browser))
        if link is not None:
            await link.close()


def by_hand(config: Config, manner: Manner, evidence: Path) -> Clients:
    """The means of a run that somebody looks at: nobody else hears of it."""
    clients = Clients()
    clients.provide(Link, Link(config.browser))
    clients.provide(Artifacts, Artifacts(evidence, config.browser.artifacts))
    clients.provide(Profiles, Profiles(config.daemon.state_dir / PROFILES))
    clients.provide(Guard, OneRun())  # type: ignore[type-abstract]
    clients.provide(Manner, manner)
    return clients
