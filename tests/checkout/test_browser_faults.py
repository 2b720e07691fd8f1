"""Real Chromium, real driver, real worker: whatever is killed or stopped when, whatever a page does, a run ends in time, and nothing is left.

A few of each here; every fault at every step, and 200 cancelled runs, with TILLWATCH_SLOW_TESTS=1.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from hostile_pages import hostile_shop
from processes import Stopwatch
from worker_ward import CHROMIUM, Ward, allow, descriptors, job, ward

from probes.checkout.job import Report
from probes.checkout.processes import look

SLOW = bool(os.environ.get("TILLWATCH_SLOW_TESTS"))
STEPS = ("open", "basket", "address", "pay")
FLOW = """
async with step("open"):
    await page.goto(job.url + "/")
async with step("basket"):
    await page.click("text=Buy")
    await page.reload()
async with step("address"):
    for _ in range(5):
        await page.evaluate("document.title")
        await asyncio.sleep(0.02)
async with step("pay"):
    assert await ask() == ""
    await page.goto(job.url + "/")
    await asyncio.sleep(0.1)
"""
VISIT = """
async with step("look"):
    await page.goto(job.url + {path!r})
    await asyncio.sleep({seconds})
    await page.evaluate("1")
"""
KILL, STOP = signal.SIGKILL, signal.SIGSTOP
WHO = ("browser", "driver", "worker", "warden", "renderer", "all")
FEW = [("browser", KILL, "basket"), ("worker", KILL, "address"), ("warden", KILL, "open"), ("driver", STOP, "pay")]
ENDED = 5.0                                # s beyond its deadline by which a run is over
WELL = 15.0                                # s in which the next one is
EVERY = [(who, number, step) for step in STEPS for number in (KILL, STOP) for who in WHO]

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: `make servers` installs it"), pytest.mark.asyncio(loop_scope="module"),
              pytest.mark.timeout(180)]                    # on a busy machine every browser takes its time


@pytest.fixture(scope="module")
def ward_of_all() -> Iterator[Ward]:
    with ward() as one:
        yield one


@pytest_asyncio.fixture(loop_scope="module")
async def one(ward_of_all: Ward) -> AsyncIterator[Ward]:
    """The browser of the case before, when that left it alive."""
    ward_of_all.on_step = lambda _: None
    ward_of_all.told.clear()
    yield ward_of_all


@pytest_asyncio.fixture(loop_scope="module", scope="module", autouse=True)
async def ended(ward_of_all: Ward) -> AsyncIterator[None]:
    before = descriptors()
    yield
    await ward_of_all.keeper.close()
    await ward_of_all.nothing_left()
    assert descriptors() <= before


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shop(ended: None) -> AsyncIterator[str]:
    async with hostile_shop() as url:
        yield url


RARER = [("/alerts", ""), ("/never", "timeout")]


async def is_well(one: Ward, url: str) -> None:
    """A run that nothing is done to."""
    one.on_step = lambda _: None
    with Stopwatch() as watch:
        report = await one.run(job(FLOW, url=url))
        assert (report.reason, [step.name for step in report.steps]) == ("", list(STEPS)), report
        assert watch() < WELL


async def warm(one: Ward, url: str) -> None:
    if one.keeper._child is None:
        await is_well(one, url)


@pytest.mark.parametrize(("who", "number", "step"), EVERY if SLOW else FEW)
async def test_whatever_is_killed_or_stopped_when(one: Ward, shop: str, who: str, number: int, step: str) -> None:
    struck: list[str] = []

    def strike(name: str) -> None:
        if name == step:
            one.strike(who, number)
            struck.append(step)
    for timeout in (2.0, 6.0, 18.0) if number == STOP else (6.0, 18.0):        # the machine may be too busy for it to come as far as the step
        await warm(one, shop)
        one.on_step = strike
        with Stopwatch() as watch:
            report = await one.run(job(FLOW, timeout, url=shop))
            assert watch() < timeout + ENDED
        if struck:
            break
    assert struck
    if (who, number) == ("warden", STOP) and report.reason == "":
        pass                                               # it has nothing to do with the run, and is found before the next
    elif (who, number) == ("renderer", KILL) and report.reason == "":
        pass                                               # the next page has another one
    else:
        assert report.reason == "browser", report
        told = [name for name in STEPS[STEPS.index(step):] if f'step "{name}"' in report.evidence]       # it may just have gone on
        assert told or who == "renderer", report
        await one.nothing_left()
    await is_well(one, shop)


def no_fair_chance(report: Report) -> bool:
    """Whether the machine was too busy for anything to be said of the page."""
    return report.reason == "browser" and "too little was left for the flow" in report.evidence


def written(folder: Path) -> int:
    """Bytes in the files of a browser that still makes and removes them."""
    found = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found += Path(path, name).lstat().st_size
    return found


@pytest.mark.parametrize(("path", "reason"), [("/loop", "timeout"), ("/windows", ""), ("/downloads", "")] + RARER * SLOW)
async def test_whatever_a_page_does(one: Ward, shop: str, path: str, reason: str) -> None:
    for timeout in (2.0, 6.0, 18.0) if reason else (4.0, 12.0):
        await warm(one, shop)
        with Stopwatch() as watch:
            report = await one.run(job(VISIT.format(path=path, seconds=0.6), timeout, url=shop))
            assert watch() < timeout + ENDED
        if not no_fair_chance(report):
            break
    assert report.reason in {reason, "timeout"}, report
    assert written(one.base) < 50_000_000
    await is_well(one, shop)


async def test_a_page_that_eats_memory_is_ended_and_the_machine_is_spared(shop: str) -> None:
    with ward(max_memory=250_000_000) as one:
        report = await one.run(job(VISIT.format(path="/memory", seconds=80), 100.0, url=shop))
        assert report.reason == "browser"
        assert 'step "look": ' in report.evidence
        assert "MB of memory, more than the 750 MB that it may" in report.evidence
        await one.nothing_left()


@pytest.mark.timeout(1200 if SLOW else 180)
async def test_cancelled_at_any_moment_nothing_is_left_and_the_next_run_is_well(one: Ward, shop: str) -> None:
    await is_well(one, shop)
    chance = random.Random(6)
    for number in range(200 if SLOW else 5):
        task = asyncio.create_task(one.run(job(FLOW, url=shop)))
        await asyncio.sleep(chance.uniform(0, 0.4 if number % 3 == 0 else 1.6))
        task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            await one.nothing_left()
    await is_well(one, shop)


BLOCKS = """
async with step("own"):
    import time
    time.sleep(60)
"""
NEVER_ENDS = """
async with step("own"):
    while True:
        try:
            await asyncio.sleep(60)
        except BaseException:
            pass
"""


@pytest.mark.skipif(not SLOW, reason="as a worker that was stopped: TILLWATCH_SLOW_TESTS=1 runs it")
@pytest.mark.parametrize("source", [BLOCKS, NEVER_ENDS])
async def test_a_flow_that_blocks_or_does_not_end_is_ended(one: Ward, shop: str, source: str) -> None:
    await warm(one, shop)
    with Stopwatch() as watch:
        report = await one.run(job(source, 2.0, url=shop))
        assert watch() < 2.0 + ENDED
    assert (report.reason, report.evidence.startswith('step "own": ')) == ("browser", True), report
    await one.nothing_left()
    await is_well(one, shop)


LITTER = """
async with step("litter"):
    import os, subprocess, sys, time
    sleep = [sys.executable, "-c", "import os, signal, time; os.kill(os.getpid(), signal.SIGSTOP); time.sleep(600)"]
    for detached in (False, True):
        for environment in (None, {}):
            subprocess.Popen(sleep, start_new_session=detached, env=environment)
    orphans = f"import subprocess; subprocess.Popen({sleep!r}, start_new_session=True, env={{}}); subprocess.Popen({sleep!r}, env={{}})"
    subprocess.run([sys.executable, "-c", orphans], start_new_session=True, check=True)
async with step("death"):
    await ask()
    os.kill(os.getpid(), 9)
"""


async def test_whatever_a_dead_worker_leaves_behind_is_found(one: Ward, shop: str) -> None:
    """Stopped, in sessions of their own, without a parent, without our environment: the warden has adopted them all."""
    alone: list[int] = []

    async def ask() -> str:
        async with asyncio.timeout(20):
            while len(alone) < 6 or any((now := look(pid)) and now.state != "T" for pid in alone):
                alone[:] = [pid for pid, text in one.processes().items() if "SIGSTOP" in text]
                await asyncio.sleep(0.02)
        return ""
    report = await one.run(job(LITTER, url=shop), ask)
    assert (report.reason, len(alone)) == ("browser", 6), report
    await one.nothing_left()
    await is_well(one, shop)


BETWEEN = [("driver", KILL), ("browser", STOP)]
MORE_BETWEEN = [("browser", KILL), ("warden", KILL), ("worker", KILL), ("all", KILL),
                ("driver", STOP), ("worker", STOP), ("warden", STOP), ("all", STOP)]


@pytest.mark.parametrize(("who", "number"), BETWEEN + MORE_BETWEEN * SLOW)
async def test_what_dies_or_stops_between_two_runs_is_replaced(one: Ward, shop: str, who: str, number: int) -> None:
    await warm(one, shop)
    one.strike(who, number)
    if number == KILL:
        await one.nothing_left()
    await is_well(one, shop)


SCRIPT = """
async def checkout(flow):
    async with flow.step("open"):
        await flow.page.goto("/")
    async with flow.step("basket"):
        await flow.page.click("text=Buy")
        await flow.page.reload()
"""


@pytest.mark.parametrize(("who", "number"), [("browser", KILL)] + [("browser", STOP), ("renderer", STOP), ("driver", STOP), ("worker", KILL)] * SLOW)
async def test_the_product_s_own_worker_and_engine(shop: str, who: str, number: int) -> None:
    struck: list[str] = []

    def strike(name: str) -> None:
        if name == "basket":
            one.strike(who, number)
            struck.append(name)
    with ward((sys.executable, "-m", "probes.checkout.worker")) as one:
        for timeout in (4.0, 12.0):
            one.on_step = lambda _: None
            report = await one.run(job(SCRIPT, url=shop))
            assert (report.reason, [step.name for step in report.steps]) == ("", ["open", "basket"]), report
            one.on_step = strike
            with Stopwatch() as watch:
                report = await one.run(job(SCRIPT, timeout, url=shop))
                assert watch() < timeout + ENDED
            if struck:
                break
        assert (report.reason, "basket" in report.evidence or who == "renderer") == ("browser", True), report
        await one.nothing_left()


DAEMON = """
import asyncio, sys, tempfile
sys.path[:0] = {path!r}
tempfile.tempdir = {base!r}
from worker_ward import PATIENT, STANDIN, allow, job
from probes.checkout.keeper import Keeper
from probes.checkout.settings import BrowserSettings
keeper = Keeper(BrowserSettings().model_copy(update={{"min_free_memory": 0}}), patience=PATIENT, command=STANDIN)
asyncio.run(keeper.run(job("async with step('long'):\\n    await asyncio.sleep(60)", 100.0), lambda message: print(message, flush=True), allow))
"""


async def test_when_the_daemon_is_killed_nothing_is_left() -> None:
    with ward() as one:
        code = DAEMON.format(path=sys.path, base=str(one.base))
        daemon = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)
        assert daemon.stdout
        assert b"long" in await daemon.stdout.readline()
        assert len(one.find("browser")) == 1
        daemon.kill()
        await daemon.wait()
        await one.nothing_left()


async def test_another_launch_replaces_the_warm_browser(one: Ward, shop: str) -> None:
    await is_well(one, shop)
    (before,) = one.find("browser")
    launch = job().launch
    other = type(launch)(no_sandbox=launch.no_sandbox, hosts=("127.0.0.1",))
    assert (await one.run(job(FLOW, url=shop, launch=other), allow)).reason == ""
    (after,) = one.find("browser")
    assert before != after
