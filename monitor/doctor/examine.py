"""Runs all checks at once, within a limit, and shows what they say."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from threading import Thread

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from monitor import client as api
from monitor.config import Config
from monitor.config_words import counted
from monitor.doctor import alarms, browser, host, logs, network
from monitor.doctor.finding import Finding, Result
from monitor.doctor.network import Reach
from probes.clients import Clients

LIMIT_SECONDS = 15.0

HERE: tuple[Callable[[Config], Iterator[Finding]], ...] = (
    alarms.configuration, host.writable_configuration, host.state_directory, host.database, host.sqlite_version, host.token, host.clock,
    host.limits, host.pace, alarms.credentials, alarms.alarms, alarms.programs,
)
THERE: tuple[Callable[[Config, Reach], AsyncIterator[Finding]], ...] = (
    network.daemon, network.names, network.certificates, network.receivers, network.uplink, logs.logs, browser.browser,
)
_COLOURS: dict[Result, str] = {"ok": "green", "warning": "yellow", "fault": "bold red"}


def run(config: Config, *, as_json: bool) -> int:
    """Examine, show, and give the exit code: 0, or 1 when something is a fault."""
    console = Console(stderr=True)
    if console.is_terminal and not as_json:
        with console.status("examining ..."):
            found = asyncio.run(examine(config))
    else:
        found = asyncio.run(examine(config))
    faulty = any(finding.result == "fault" for finding in found)
    if as_json:
        click.echo(json.dumps({"ok": not faulty, "checks": [asdict(finding) for finding in found]}, indent=2, ensure_ascii=False))
    else:
        _print(found)
    return api.BAD if faulty else 0


async def examine(config: Config, seconds: float = LIMIT_SECONDS) -> list[Finding]:
    """What every check says, in the order of the checks."""
    async with Clients() as clients:
        reach = Reach(clients)
        checks = [asyncio.create_task(_in_thread(check, config), name=_name(check)) for check in HERE]
        checks += [asyncio.create_task(_gathered(check(config, reach)), name=_name(check)) for check in THERE]
        _, late = await asyncio.wait(checks, timeout=seconds)
        for check in late:
            check.cancel()
        await asyncio.wait(checks)
    return [finding for check in checks for finding in ([_unfinished(check.get_name(), seconds)] if check in late else check.result())]


async def _in_thread(check: Callable[[Config], Iterator[Finding]], config: Config) -> list[Finding]:
    """In a thread that nobody waits for at the end: on a dead disk it may hang for ever."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[Finding]] = loop.create_future()

    def work() -> None:
        said: list[Finding] | None = None
        try:
            said = list(check(config))
        finally:                                         # what flies is printed by the thread, and ends the command
            with suppress(RuntimeError):                 # the loop is closed: nobody is left to tell
                loop.call_soon_threadsafe(_settle, future, said)
    Thread(target=work, name=_name(check), daemon=True).start()
    return await future


def _settle(future: asyncio.Future[list[Finding]], said: list[Finding] | None) -> None:
    if said is None and not future.done():
        future.set_exception(RuntimeError("a check raised"))
    elif not future.done():
        future.set_result(said or [])


async def _gathered(findings: AsyncIterator[Finding]) -> list[Finding]:
    return [finding async for finding in findings]


def _name(check: Callable[..., object]) -> str:
    return getattr(check, "__name__", "check").replace("_", " ")


def _unfinished(name: str, seconds: float) -> Finding:
    return Finding(name, "warning", f"this check did not end within {seconds:.0f} s", "look at the network and the disk of this machine")


def _print(found: Sequence[Finding]) -> None:
    table = Table("check", "result", "what", "how to mend it", box=None, pad_edge=False)
    for finding in found:
        table.add_row(finding.check, f"[{_COLOURS[finding.result]}]{finding.result}[/]", escape(finding.says), escape(finding.mend))
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    count = {result: sum(f.result == result for f in found) for result in _COLOURS}
    click.echo(", ".join(counted(count[result], result) for result in ("fault", "warning")))
