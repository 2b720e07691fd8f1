"""The whole story on one machine: a shop, its daemon, a good update, a bad one, the page, the rollback, the report.

The story drives public interfaces only: the command line, the configuration and the webhook that a receiver gets.
Nothing in the daemon knows it.
"""

import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from monitor.demo import browsing
from monitor.demo.inbox import Inbox

BASELINE_SECONDS = 50
PASS_SECONDS = 60
FOUND_SECONDS = 45
RECOVERED_SECONDS = 120            # usually 10 s; where the machine is busy with other things the shop is slower than before

CONFIG = """\
# Made by `tillwatch demo`. Everything is quick here: in production a probe runs every 30 s or so.
[shop]
name = "kettle-and-leaf"
url = "http://127.0.0.1:{shop}"
environment = "demo"

[daemon]
state_dir = "state"

[web]
listen = "127.0.0.1:{daemon}"

[defaults]
interval = "400ms"
timeout = "400ms"
recheck = "200ms"
confirm = "20s"

[[probe]]
name = "home"
kind = "http"
url = "http://127.0.0.1:{shop}/"
expect = {{ status = [200], body_contains = ["sent the day it is packed"] }}

[[probe]]
name = "category"
kind = "http"
url = "http://127.0.0.1:{shop}/category/coffee"
critical = true
expect = {{ status = [200], body_matches = ["House Espresso|In stock|product/"] }}

[[probe]]
name = "search"
kind = "http"
url = "http://127.0.0.1:{shop}/search?q=tea"
expect = {{ status = [200], body_contains = ["Results for"] }}

[[probe]]
name = "product"
kind = "http"
url = "http://127.0.0.1:{shop}/product/sencha"
critical = true
expect = {{ status = [200], body_contains = ["Add to basket"] }}

[[probe]]
name = "pay"
kind = "http"
url = "http://127.0.0.1:{shop}/checkout/payment"
critical = true
means = "customers cannot pay"
method = "POST"
headers = {{ Content-Type = "application/x-www-form-urlencoded", Accept = "application/json" }}
body = "product=sencha&card=4242424242424242&name=Till+Watch&email=till%40shop.example"
expect = {{ status = [200], json = {{ status = "paid" }} }}

[[probe]]
name = "logs"
kind = "error_log"
paths = ["shop/*.log"]
begin = "beginning"

{checkout}
[[receiver]]
name = "phone"
kind = "webhook"
url = "http://127.0.0.1:{inbox}/page"
secret = "{secret}"

[update]
warm_up = "4s"
observe = "{observe}s"
interval_factor = 1                                   # the probes are as fast as they can be already
margin = {{ success = 0.25, p50 = 0.50, p95 = 1.0 }}    # a demo has a minute, not hours: it looks for big harm only
"""


class NotAsToldError(Exception):
    """The story took another turn."""


@dataclass
class _Stage:
    """Where the story plays."""

    directory: Path
    shop_port: int
    daemon_port: int
    inbox: Inbox
    console: Console
    leaving: ExitStack                # ends what was started
    daemon: subprocess.Popen[bytes] | None = None
    browser: bool = False

    def tillwatch(self, *words: str, config: str = "config.toml") -> subprocess.CompletedProcess[str]:
        """Run the command line as a user would."""
        command = [sys.executable, "-m", "monitor", "-c", str(self.directory / config), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)  # noqa: S603 - our own program

    def expect(self, code: int, *words: str, config: str = "config.toml") -> str:
        """Run a command that must end with this exit code; what it printed."""
        self.console.print(f"  [dim]$ tillwatch {escape(' '.join(words))}[/dim]", highlight=False)
        done = self.tillwatch(*words, config=config)
        if done.returncode != code:
            raise NotAsToldError(f"`tillwatch {' '.join(words)}` ended with {done.returncode}, not {code}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def deploy(self, release: str) -> None:
        """Put a release of the shop live."""
        self.console.print(f"  [dim]$ kettle deploy {release}[/dim]", highlight=False)
        command = [sys.executable, "-m", "monitor.demo.shop", "deploy", release, "--dir", str(self.directory / "shop")]
        subprocess.run(command, check=True, capture_output=True, timeout=30)  # noqa: S603 - our own program


def play(directory: Path | None, port: int = 0) -> int:
    """Play the story and give the exit code: 0 only when all of it came out as told."""
    console = Console()
    directory = directory or Path(tempfile.mkdtemp(prefix="tillwatch-demo-"))
    directory.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    try:
        with ExitStack() as stack:
            stage = _set_up(stack, console, directory, port)
            for number, act in enumerate(_ACTS, 1):
                console.rule(f"[bold]{number}/{len(_ACTS)}[/bold]  {act.__doc__}", align="left")
                act(stage)
    except NotAsToldError as error:
        console.print(f"\n[bold red]Not as told:[/bold red] {escape(str(error))}\nAll that was written lies in {directory}", highlight=False)
        return 1
    console.print(f"\n[bold green]All of it came out as told[/bold green], in {time.monotonic() - begun:.0f} s. "
                  f"The post-mortem lies in {directory / 'report.html'}", highlight=False, soft_wrap=True)
    return 0


def _set_up(stack: ExitStack, console: Console, directory: Path, port: int) -> _Stage:
    shop = _free_port()
    inbox = stack.enter_context(Inbox.listening())
    stage = _Stage(directory, shop, port or _free_port(), inbox, console, stack, browser=not (missing := browsing.missing()))
    if missing:
        console.print(f"  [yellow]Without checkouts in a browser:[/yellow] {escape(missing)}", highlight=False)
    text = CONFIG.format(shop=shop, daemon=stage.daemon_port, inbox=inbox.port, secret=inbox.secret, observe=PASS_SECONDS,
                         checkout=browsing.write(directory, shop) if stage.browser else "")
    path = directory / "config.toml"
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "monitor.demo.shop", "--port", str(shop), "--release", "1.0", "--dir", str(directory / "shop")]
    process = stack.enter_context(_process(command, directory / "shop.log"))
    _until(lambda: _answers(shop), 20, "the shop does not answer", process)
    return stage


def watch_the_shop(stage: _Stage) -> None:
    """A shop is watched"""
    stage.expect(0, "check-config")
    stage.expect(0, "probe", "pay")
    if stage.browser:
        stage.console.print(stage.expect(0, "probe", "as-far-as-payment", config=browsing.DECLARED).rstrip(), highlight=False, markup=False)
    command = [sys.executable, "-m", "monitor", "-c", str(stage.directory / "config.toml"), "run"]
    stage.daemon = stage.leaving.enter_context(_process(command, stage.directory / "daemon.log"))
    _until(lambda: _answers(stage.daemon_port), 20, "the daemon does not answer", stage.daemon)
    metrics = f"http://127.0.0.1:{stage.daemon_port}/metrics"
    browsed = ", and a guest who buys tea in a real browser every few seconds" if stage.browser else ""
    stage.console.print(f"  Five probes and one of the shop's logs, 2.5 runs a second each{browsed}. Metrics: {metrics}", highlight=False)
    with _bar(stage.console, "learning what normal is", BASELINE_SECONDS) as advance:
        for _ in range(BASELINE_SECONDS):
            time.sleep(1)
            advance(1)


def good_update(stage: _Stage) -> None:
    """Update 1.1: new looks, nothing worse"""
    id_ = stage.expect(0, "update", "start", "1.1", "--change", "kettle@1.1").strip()
    stage.deploy("1.1")
    stage.expect(0, "update", "finish", id_)
    verdict = json.loads(_waiting(stage, "waiting for the verdict", PASS_SECONDS, lambda: stage.expect(0, "gate", id_, "--output", "json")))
    stage.console.print(f"  [green]PASS[/green]  {escape(verdict['sentence'])}", highlight=False)
    if stage.inbox.messages:
        raise NotAsToldError(f"a good update paged somebody: {stage.inbox.messages[0]['data']}")


def bad_update(stage: _Stage) -> None:
    """Update 2.0: payments fail, and the catalogue is slow"""
    id_ = stage.expect(0, "update", "start", "2.0", "--change", "kettle@2.0", "--change", "payment-gateway@3").strip()
    stage.deploy("2.0")
    begun = time.monotonic()
    verdict = json.loads(_waiting(stage, "gate is waiting", FOUND_SECONDS, lambda: stage.expect(1, "gate", id_, "--output", "json")))
    took = time.monotonic() - begun
    stage.console.print(f"  [bold red]REGRESSION[/bold red] after {took:.0f} s, gate returned 1:  {escape(verdict['sentence'])}", highlight=False)
    _until(lambda: bool(stage.inbox.messages), 10, "no page arrived", stage.daemon)
    page = stage.inbox.messages[0]
    if page["type"] != "incident.firing" or "regression" not in json.dumps(page["data"]):
        raise NotAsToldError(f"the page is not about the regression: {page}")
    stage.console.print(f"  [bold]The phone rings:[/bold] {escape(page['data']['sentence'])}", highlight=False)
    if not (news := [line for line in page["data"]["evidence"] if "KeyError" in line and "payment_gateway" in line]):
        raise NotAsToldError(f"the page does not name the new error in the shop's log: {page['data']['evidence']}")
    stage.console.print(f"  [bold]Its evidence:[/bold] {escape(news[0])}", highlight=False)
    stage.console.print(stage.expect(0, "update", "status", id_), highlight=False, markup=False)


def roll_back(stage: _Stage) -> None:
    """The rollback, and the recovery"""
    stage.deploy("1.1")
    stage.expect(0, "update", "rollback")
    begun = time.monotonic()

    def told() -> bool:
        return any(message["type"] == "incident.resolved" for message in stage.inbox.messages)
    _waiting(stage, 'waiting for "back to normal"', RECOVERED_SECONDS, lambda: _until(
        told, RECOVERED_SECONDS, "nobody was told of a recovery", stage.daemon))
    over = next(m for m in stage.inbox.messages if m["type"] == "incident.resolved")
    took = time.monotonic() - begun
    stage.console.print(f"  [green]Back to normal[/green] after {took:.0f} s: {escape(over['data']['sentence'])}", highlight=False)
    incidents = {m["data"]["incident"] for m in stage.inbox.messages}
    if len(incidents) != 1 or len(stage.inbox.messages) != 2:
        raise NotAsToldError(f"one incident was to make two messages, not {len(stage.inbox.messages)} of {len(incidents)} incidents")


def learn(stage: _Stage) -> None:
    """What is left to read"""
    path = stage.expect(0, "report", "-o", str(stage.directory / "report.html")).strip()
    if "payment-gateway" not in Path(path).read_text(encoding="utf-8"):
        raise NotAsToldError("the report does not name what the update changed")
    stage.console.print(stage.expect(0, "update", "list"), highlight=False, markup=False)
    if stage.daemon:
        _stop(stage.daemon)
        if stage.daemon.returncode != 0:
            raise NotAsToldError(f"the daemon stopped with {stage.daemon.returncode}")


_ACTS: tuple[Callable[[_Stage], None], ...] = (watch_the_shop, good_update, bad_update, roll_back, learn)


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)  # noqa: S603 - our own program
        try:
            yield process
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _until(true: Callable[[], bool], seconds: float, otherwise: str, process: subprocess.Popen[bytes] | None) -> None:
    end = time.monotonic() + seconds
    while not true():
        if process and process.poll() is not None:
            raise NotAsToldError(f"{otherwise}: the process ended with {process.returncode}")
        if time.monotonic() > end:
            raise NotAsToldError(f"{otherwise} within {seconds:.0f} s")
        time.sleep(0.1)


@contextmanager
def _bar(console: Console, what: str, total: float) -> Iterator[Callable[[float], None]]:
    """A progress bar on a terminal, one line elsewhere."""
    columns = (TextColumn("  {task.description}"), BarColumn(), TimeElapsedColumn())
    if not console.is_terminal:
        console.print(f"  {what} ...", highlight=False)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda step: progress.advance(task, step)


def _waiting(stage: _Stage, what: str, seconds: float, work: Callable[[], Any]) -> Any:
    """Do what takes a while, with something to look at."""
    with _bar(stage.console, what, seconds):
        return work()
