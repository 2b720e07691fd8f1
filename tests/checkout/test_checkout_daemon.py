"""What the daemon makes of a checkout probe: its jobs, its metrics, its warnings; and the verbs `probe` and `browser`."""

import asyncio
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import free_port, until

from monitor.config import load
from monitor.exporter import Exporter
from monitor.signal_words import not_judged
from monitor.targets import job as job_of
from monitor.targets import of_device, watches
from probes.checkout.job import Job, Launch
from probes.checkout.link import Link
from probes.checkout.settings import BrowserSettings
from probes.sample import Outcome, Sample, Step

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: `make servers` installs it")
ROOT = Path(__file__).parents[2]
TILLWATCH = [sys.executable, "-m", "monitor"]
NO_SANDBOX = os.geteuid() == 0


STOPS = "async def checkout(flow):\n    async with flow.step('payment'):\n        pass\n"


def config(folder: Path, keys: str = "", flow: str = STOPS, port: int = 9) -> Path:
    """A configuration with one checkout probe."""
    (folder / "flow.py").write_text(flow)
    path = folder / "config.toml"
    path.touch(mode=0o600)
    path.write_text(f"""
[shop]
name = "shop"
url = "http://127.0.0.1:{port}"
[browser]
no_sandbox = {str(NO_SANDBOX).lower()}
[[probe]]
name = "checkout"
kind = "checkout"
flow = "flow.py"
{keys}""")
    return path


def test_a_run_has_time_to_end_after_its_timeout_and_an_order_is_not_repeated(tmp_path: Path) -> None:
    stopping, ordering = (load(config(tmp_path, keys)).probe[0] for keys in ("", 'stop_before = ""'))
    first, second = (job_of((probe.name, "", ""), probe, 0.25) for probe in (stopping, ordering))
    assert (first.group, first.interval, first.fast, first.recheck) == ("browser", 75.0, 75.0, 10.0)
    assert first.timeout >= stopping.timeout + 5 + 25                        # the browser killed, orders cancelled
    assert second.recheck == math.inf


def test_each_device_is_a_target_with_its_share_of_the_daily_limit(tmp_path: Path) -> None:
    probe: Any = load(config(tmp_path, 'devices = ["Desktop Chrome", "iPhone 15"]\nmax_runs_per_day = 3001')).probe[0]
    assert watches(probe) == [("checkout", "Desktop Chrome", ""), ("checkout", "iPhone 15", "")]
    one: Any = of_device(probe, "iPhone 15")
    assert (one.devices, one.cap) == (("iPhone 15",), 1500)
    assert probe.url == "http://127.0.0.1:9"                                # the shop's, unless it has its own
    assert probe.reachable == ("127.0.0.1",)


@pytest.mark.parametrize(("keys", "flow", "warning"), [
    ("", STOPS.replace("payment", "pay"), 'no step of flow.py is called "payment", so every run will be refused'),
    ("", "async def checkout(flow:\n", None),              # what is said of it is another thing
    ('stop_before = ""', "", None),
    ("", STOPS, None),
])
def test_check_config_warns_of_a_flow_that_would_not_stop(tmp_path: Path, keys: str, flow: str, warning: str | None) -> None:
    told = [text for text in load(config(tmp_path, keys, flow)).warnings if "stop_before" in text]
    assert (warning in told[0] if told and warning else bool(told)) == (warning is not None)


def test_check_config_warns_of_a_flow_that_is_not_there(tmp_path: Path) -> None:
    path = config(tmp_path)
    (tmp_path / "flow.py").unlink()
    assert any("flow.py cannot be read: No such file" in text for text in load(path).warnings)


async def exposed(exporter: Exporter) -> list[str]:
    async def pause() -> None:
        return None
    return b"".join([part async for part in exporter.render(pause, open_metrics=False)]).decode().splitlines()


async def test_steps_and_vitals_are_exported_by_device() -> None:
    target = ("checkout", "iPhone 15", "")
    exporter = Exporter("shop", [target])
    for seconds, outcome in ((0.3, Outcome.OK), (0.7, Outcome.OK), (9.0, Outcome.FAILED)):
        exporter.observe(Sample("checkout", outcome, "" if outcome is Outcome.OK else "step", device="iPhone 15",
                                steps=(Step("pay", outcome, seconds),), facts={"lcp": 1.25, "cls": 0.1}))
    lines = await exposed(exporter)
    labels = 'shop="shop",probe="checkout",device="iPhone 15",cohort="",location=""'
    assert f'tillwatch_step_duration_seconds_bucket{{{labels},step="pay",le="0.5"}} 1' in lines
    assert f'tillwatch_step_duration_seconds_bucket{{{labels},step="pay",le="+Inf"}} 2' in lines         # what failed took no time of its own
    assert f'tillwatch_step_duration_seconds_sum{{{labels},step="pay"}} 1.0' in lines
    assert f"tillwatch_web_vital_lcp_seconds{{{labels}}} 1.25" in lines
    assert f"tillwatch_web_vital_cls{{{labels}}} 0.1" in lines


async def test_names_of_steps_cannot_fill_the_metrics() -> None:
    exporter = Exporter("shop", [("checkout", "", "")])
    for number in range(200):
        exporter.observe(Sample("checkout", Outcome.OK, steps=(Step(f"step {number}", Outcome.OK, 0.1),)))
    assert sum("step_duration_seconds_count" in line for line in await exposed(exporter)) == 60


def test_signals_of_which_nothing_can_be_said_take_one_line() -> None:
    def signal(probe: str, name: str, evidence: float | None) -> dict[str, Any]:
        return {"probe": probe, "device": "", "cohort": "", "signal": name, "evidence": evidence, "guilty": False, "control": False,
                "ruled_clean": False, "threshold": 2.0, "n_after": 3, "needed": None, "note": "baseline too short: 17 of 90 runs"}
    steps = [signal("checkout", f"step {n}", None) for n in range(6)]
    lines = not_judged([signal("checkout", "duration", 0.1), *steps, signal("logs", "errors", None)])
    assert lines == ["checkout: step 0, step 1, step 2, step 3 and 2 more: baseline too short: 17 of 90 runs",
                     "logs: errors: baseline too short: 17 of 90 runs"]


@NEEDS_CHROMIUM
def test_a_probe_by_hand_says_each_step_and_where_its_evidence_is(tmp_path: Path) -> None:
    path = config(tmp_path, 'timeout = "40s"', port=free_port(), flow="""
async def checkout(flow):
    async with flow.step("nobody there"):
        await flow.page.goto("/")
    async with flow.step("payment"):
        pass
""")
    folder = tmp_path / "evidence"
    done = subprocess.run([*TILLWATCH, "-c", str(path), "probe", "checkout", "--json", "--evidence", str(folder)], capture_output=True, text=True,
                          timeout=55, check=False)
    sample = json.loads(done.stdout)
    assert (done.returncode, sample["outcome"], sample["reason"]) == (1, "failed", "connect_refused"), done.stderr
    assert [(step["name"], step["reason"]) for step in sample["steps"]] == [("nobody there", "connect_refused")]
    named = [word.strip("[],") for word in sample["evidence"].split() if str(folder) in word]
    assert named
    assert all(Path(name).is_file() for name in named)


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    path = tmp_path / "browser.socket"
    process = subprocess.Popen([*TILLWATCH, "browser", "--listen", str(path)], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield process, path
    process.kill()
    process.wait()


def listens(path: Path) -> bool:
    """There is a socket some moments before anybody listens there."""
    with socket.socket(socket.AF_UNIX) as caller:
        return caller.connect_ex(str(path)) == 0


@NEEDS_CHROMIUM
async def test_a_browser_of_its_own_serves_a_daemon_and_stops_in_order(
        unit: tuple[subprocess.Popen[bytes], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.checkout.link._CONNECTING", 20.0)
    process, path = unit
    until(lambda: listens(path), 30, "listening of the browser's unit")
    link = Link(BrowserSettings.model_construct(socket=path))
    flow = "async def checkout(flow):\n    async with flow.step('blank'):\n        await flow.page.goto('about:blank')\n"
    job = Job(run="r1", probe="checkout", url="http://127.0.0.1:9", timeout=40.0, source=flow, launch=Launch(no_sandbox=NO_SANDBOX))
    report = await link.run(job, lambda _message: None, _never)
    await link.close()
    assert (report.reason, [step.name for step in report.steps]) == ("", ["blank"]), report.evidence
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 10) == 0
    assert not path.exists()


async def _never() -> str:
    raise AssertionError("nothing was to be submitted")
