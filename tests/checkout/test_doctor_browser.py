"""`tillwatch doctor` on the browser of checkout probes: it is really started, and each thing that can be wrong has its words."""

import asyncio
import json
import os
import random
import shutil
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from processes import Stopwatch

from monitor.config import Config, load
from monitor.doctor import browser, examine
from monitor.doctor.finding import Finding
from monitor.doctor.network import Reach
from probes.checkout import browsers, processes
from probes.checkout.server import serve
from probes.checkout.settings import BrowserSettings
from probes.clients import Clients

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: `make servers` installs it")
AS_ROOT = os.geteuid() == 0
HOME = '[[probe]]\nname = "home"\nkind = "http"\nurl = "http://127.0.0.1:9/"\n'
BUY = '[[probe]]\nname = "buy"\nkind = "checkout"\ninterval = "5m"\ntimeout = "30s"\nstop_before = ""\nflow = "flow.py"\n'
WALK = "async def checkout(flow):\n    async with flow.step('look'):\n        await flow.page.goto('/')\n"


def configured(directory: Path, probe: str = BUY, browser: str = "") -> Config:
    (directory / "flow.py").write_text(WALK)
    path = directory / "config.toml"
    path.touch(mode=0o600)
    path.write_text(f'[shop]\nname = "till"\nurl = "http://127.0.0.1:9/"\n[browser]\n{browser}\n{probe}', encoding="utf-8")
    return load(path)


async def findings(config: Config) -> list[Finding]:
    async with Clients() as clients:
        return [finding async for finding in browser.browser(config, Reach(clients))]


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[None]:
    """The browser as a service of its own."""
    listening = asyncio.Event()
    task = asyncio.create_task(serve(path, BrowserSettings(), ready=listening.set))
    await asyncio.wait_for(listening.wait(), 20)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_without_a_checkout_probe_nothing_is_said(tmp_path: Path) -> None:
    assert await findings(configured(tmp_path, HOME)) == []


def test_it_is_among_the_checks() -> None:
    assert browser.browser in examine.THERE


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a browser takes longer to start than whoever asks the doctor has to wait."""
    monkeypatch.setattr(browser, "SECONDS", 40.0)
    monkeypatch.setattr("probes.checkout.link._CONNECTING", 20.0)


@needs_chromium
@pytest.mark.usefixtures("unhurried")
async def test_a_browser_that_starts_and_how(tmp_path: Path) -> None:
    found = await findings(configured(tmp_path, browser=f"no_sandbox = {json.dumps(AS_ROOT)}"))
    assert [f.result for f in found if f.check == "browser"] == ["ok", "warning", "ok"] if AS_ROOT else ["ok", "ok"]
    assert "MB of memory are free" in found[0].says
    assert found[-1].says.startswith("chromium starts and runs scripts (")
    assert ("in its own sandbox" in found[-1].says) is not AS_ROOT
    assert [f for f in found if f.result != "ok" and not f.mend] == []


@needs_chromium
@pytest.mark.skipif(not AS_ROOT, reason="only root is refused")
async def test_as_root_it_is_a_fault_and_never_started_without_its_sandbox(tmp_path: Path) -> None:
    found = (await findings(configured(tmp_path)))[-1]
    assert (found.result, found.mend) == ("fault", 'use tillwatch-browser.service: [browser] socket = "/run/tillwatch-browser/socket"')
    assert "Chromium's sandbox cannot be had as root" in found.says


async def test_a_browser_that_is_not_there(tmp_path: Path) -> None:
    found = (await findings(configured(tmp_path, browser=f'no_sandbox = true\nexecutable_path = "{tmp_path}/none"')))[-1]
    assert found.result == "fault"
    assert "executable_path" in found.says


async def test_a_browser_that_does_not_answer_is_given_up_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "SECONDS", 1.5)
    program = tmp_path / "chromium"
    seconds = f"0.{random.SystemRandom().randrange(10**9):09}"               # by which it is told from other tests' programs
    program.write_text(f"#!/bin/sh\nexec sleep 60 {seconds}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    with Stopwatch() as watch:
        found = (await findings(configured(tmp_path, browser=f'no_sandbox = true\nexecutable_path = "{program}"')))[-1]
        assert watch() < 8
    assert found.result == "fault"
    assert [p for p in processes.everything().values() if f"sleep\x0060\x00{seconds}" in _command(p.pid)] == []


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


@needs_chromium
@pytest.mark.usefixtures("unhurried")
async def test_a_service_that_runs_one_and_one_that_is_not_there(tmp_path: Path) -> None:
    socket = tmp_path / "socket"
    config = configured(tmp_path, browser=f'no_sandbox = {json.dumps(AS_ROOT)}\nsocket = "{socket}"')
    gone = (await findings(config))[-1]
    assert (gone.result, f"{socket}" in gone.says) == ("fault", True)
    assert "systemctl status tillwatch-browser" in gone.mend
    async with serving(socket):
        found = await findings(config)
    assert found[-1].result == "ok"
    assert f"chromium behind {socket} starts" in found[-1].says
    assert not any("memory" in f.says for f in found)                # it is not this user's


async def test_too_little_memory_and_too_little_to_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "free_memory", lambda: 500_000_000)
    monkeypatch.setattr(browsers, "free", lambda path: 64_000_000)
    memory, shared = list(browser._room(configured(tmp_path)))
    assert (memory.result, memory.says) == ("fault", "500 MB of memory are free, 700 MB are asked for before a run")
    assert (shared.result, shared.mend) == ("warning", "of a container: --shm-size=512m")


@pytest.mark.parametrize(("place", "unit", "drop_in", "told"), [
    ("config.toml", "tillwatch.service", "", True), ("shoes/config.toml", "tillwatch@.service", "", True),
    ("config.toml", "tillwatch.service", "[Service]\nMemoryDenyWriteExecute=no\n", False), ("config.toml", "other.service", "", False),
])
def test_in_the_daemon_s_unit_no_browser_can_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, unit: str, drop_in: str, told: bool,
) -> None:
    monkeypatch.setattr(browser, "UNITS", tmp_path)
    (tmp_path / unit).write_text((Path(browser.__file__).parents[2] / "systemd/tillwatch.service").read_text())
    (tmp_path / f"{unit}.d").mkdir()
    (tmp_path / f"{unit}.d" / "mine.conf").write_text(drop_in)
    config: Any = configured(tmp_path).model_copy(update={"path": Path("/etc/tillwatch") / place})
    found = list(browser._daemon_s_unit(config))
    assert [f.says for f in found] == ([f"no browser can run in {unit}, which has MemoryDenyWriteExecute=yes"] if told else [])
    assert list(browser._daemon_s_unit(configured(tmp_path))) == []                # a daemon that somebody starts by hand
