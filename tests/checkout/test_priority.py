"""The browser stands behind others for the processor, also where the kernel shares it by session; a run that was kept from it is marked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import until
from worker_ward import CHROMIUM, job, ward

from probes.checkout import processes

CORES = os.sched_getaffinity(0)
GROUPS = Path("/proc/sys/kernel/sched_autogroup_enabled")
FLOW = "async with step('a'):\n    await page.goto('about:blank')"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: `make servers` installs it")
@pytest.mark.skipif(not GROUPS.exists() or GROUPS.read_text() != "1\n", reason="this kernel does not share the processor by session")
async def test_every_session_of_the_browser_is_behind_that_of_the_daemon() -> None:
    own = group(os.getpid())
    with ward() as one:
        assert (await one.run(job(FLOW))).reason == ""
        sessions = {os.getsid(pid) for pid in (*one.find("driver"), *one.find("browser"))}
        assert len(sessions) == 2, "Chromium has one of its own"
        until(lambda: all(group(pid).endswith(f" nice {processes.NICE}\n") for pid in sessions), 20, "stepping back")
        await one.keeper.close()
    assert group(os.getpid()) == own


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: `make servers` installs it")
@pytest.mark.skipif(len(CORES) < 2, reason="one core only")
async def test_one_core_is_left_to_others() -> None:
    with ward() as one:
        assert (await one.run(job(FLOW))).reason == ""
        for pid in [pid for who in ("worker", "driver", "browser", "renderer") for pid in one.find(who)]:
            assert os.sched_getaffinity(pid) == CORES - {min(CORES)}
        await one.keeper.close()
    assert os.sched_getaffinity(0) == CORES


def test_the_only_core_is_shared() -> None:
    code = ("import os, sys; os.sched_setaffinity(0, [int(sys.argv[1])]); from probes.checkout import processes; "
            "processes.be_humble(); print(*os.sched_getaffinity(0))")
    said = subprocess.run([sys.executable, "-c", code, str(max(CORES))], capture_output=True, text=True, check=True).stdout
    assert said == f"{max(CORES)}\n"


async def test_the_session_of_another_one_is_left_alone() -> None:
    own, known = group(os.getpid()), set[int]()
    processes.step_back({os.getpid()} - {os.getsid(0)}, processes.everything(), known)
    assert (group(os.getpid()), known) == (own, set())


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: `make servers` installs it")
async def test_a_run_whose_worker_was_kept_from_running_is_overloaded() -> None:
    with ward() as one:
        kept = await one.run(job(f"import time\n{FLOW}\n    time.sleep(1)"))
        others = [await one.run(job(FLOW)) for _ in range(5)]
        await one.keeper.close()
    assert (kept.reason, kept.overloaded) == ("", True)
    assert not all(other.overloaded for other in others), "on no machine is each of them kept from it by others"


def group(pid: int) -> str:
    """That the kernel has made of its session, with its niceness last; empty for what the init started without a session of its own."""
    return Path(f"/proc/{pid}/autogroup").read_text()
