"""The keeper with workers that have no browser: recycled when they are worn, and replaced when they do not behave."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from processes import Stopwatch
from worker_ward import Ward, allow, bad, descriptors, job, ward

from probes.checkout import processes
from probes.checkout.keeper import Patience

FINE = ["begun", "ok"]
SHORT = Patience(start=40, cancel=0.1, kill=0.2)


async def pids(ward: Ward, runs: int, **more: Any) -> list[int]:
    """Of the worker in each of so many runs, which are fine."""
    found = []
    for _ in range(runs):
        held = [0]
        ward.on_step = lambda _, held=held: held.append(*ward.find("all"))     # type: ignore[misc]
        assert (await ward.run(job(**more))).reason == ""
        found.append(held[-1])
    return found


async def test_one_worker_serves_many_runs_and_is_gone_after_closing() -> None:
    with ward(bad("fine")) as one:
        before = descriptors()
        assert len(set(await pids(one, 3))) == 1
        report = await one.run(job())
        assert (report.steps[0].name, report.seconds, report.worn) == ("basket", 0.5, False)
        assert [message["state"] for message in one.told] == FINE * 4
        await one.keeper.close()
        await one.nothing_left(0)
        assert descriptors() == before


async def test_a_worker_is_renewed_after_its_runs_its_age_and_its_memory() -> None:
    with ward(bad("fine"), max_runs=2) as one:
        first, second, third = await pids(one, 3)
        assert first == second != third
        await one.keeper.close()
    with ward(bad("fine"), max_memory=1000) as one:
        assert len(set(await pids(one, 2, variables={"memory": "1001"}))) == 2
        assert len(set(await pids(one, 2, variables={"memory": "1000"}))) == 1
        await one.keeper.close()
    with ward(bad("fine"), max_age=0.3) as one:
        await pids(one, 1)
        await one.nothing_left(3)                          # nobody needed it
    with ward(bad("worn")) as one:
        await one.run(job())
        await one.nothing_left(0)


async def test_without_enough_memory_nothing_is_started() -> None:
    with ward(bad("fine"), min_free_memory=10**15) as one:
        report = await one.run(job())
        assert report.reason == "local_resources"
        assert report.evidence.endswith("a browser needs 1000000000 MB")
        assert one.leftovers() == []
    assert 0 < processes.free_memory() < 10**13


@pytest.mark.parametrize(("mode", "words"), [
    ("mute", "did not start in time"), ("garbage", "could not be started"), ("text", "could not be started: a message of 1213486160 bytes"),
    ("newer", "version 99 of the protocol, not 1"), ("no hello", "does not begin as this version does"),
    ("huge", "a message of 2147483648 bytes"), ("deep", "what it sent is not JSON")])
async def test_a_worker_that_does_not_greet_is_killed(mode: str, words: str) -> None:
    with ward(bad(mode), patience=Patience(start=0.8 if mode == "mute" else 40)) as one:
        report = await one.run(job())
        assert (report.reason, words in report.evidence, report.steps) == ("browser", True, []), report.evidence
        await one.nothing_left(0)


@pytest.mark.parametrize(("mode", "words"), [
    ("dies", "broke off: it ended (it was ended by signal 9)"), ("exits", "it ended (MemoryError: nothing left)"),
    ("no json", "is not JSON"), ("nan", "is not JSON"), ("no report", "its report is not one"),
    ("other report", "a reason that this version does not know"), ("wrong types", "its report is not one"),
    ("unknown", "that this version does not know"), ("answers itself", 'it sent "go" where it has no place'), ("state", "in a state that"),
    ("hangs", "did not end within 2.5 s"), ("deaf", "did not end within 2.5 s"), ("spam", "it says more than any run has to say")])
async def test_a_worker_that_misbehaves_in_a_run_is_killed_and_the_step_named(mode: str, words: str) -> None:
    with ward(bad(mode), patience=SHORT) as one:
        await one.keeper._ready()                          # how long that takes is another matter
        timeout = 2.5 if "within" in words else 40.0
        with Stopwatch() as watch:
            report = await one.run(job(timeout=timeout))
            assert watch() < 4
        assert report.reason == "browser"
        assert report.evidence.startswith('step "basket": '), report.evidence
        assert words in report.evidence
        await one.nothing_left(0)


async def test_a_flood_of_evidence_is_ended() -> None:
    with ward(bad("flood")) as one:
        report = await one.run(job())
        assert (report.reason, "more than any run" in report.evidence, len(one.told)) == ("browser", True, 5)
        await one.nothing_left(0)


async def test_what_the_worker_said_holds_when_its_evidence_hangs() -> None:
    with ward(bad("evidence hangs"), patience=SHORT) as one:
        await one.keeper._ready()
        report = await one.run(job(timeout=2.5))
        assert (report.reason, report.evidence, report.worn) == ("step", "no button", True)
        await one.nothing_left(0)


async def test_a_run_that_may_have_submitted_says_so_whatever_became_of_it() -> None:
    async def refuse() -> str:
        return "one order a run"
    with ward(bad("asks and dies")) as one:
        assert (await one.run(job())).submitted is True
        assert (await one.run(job(), refuse)).submitted is False


async def test_what_the_asked_one_raises_flies_and_nothing_is_left() -> None:
    async def broken() -> str:
        raise LookupError("the store")
    with ward(bad("asks and dies")) as one:
        with pytest.raises(LookupError, match="the store"):
            await one.run(job(), broken)
        await one.nothing_left(0)


async def test_a_flow_without_time_because_of_a_slow_start_did_not_fail() -> None:
    with ward(bad("late")) as one:
        report = await one.run(job(timeout=6.0))
        assert report.reason == "browser"
        assert "s to start, too little was left for the flow; not over" in report.evidence
        assert (await one.run(job(timeout=100.0))).reason == "timeout"    # warm by now
        await one.keeper.close()


async def test_a_program_that_is_not_there_is_told() -> None:
    with ward(("/nonexistent/python",)) as one:
        report = await one.run(job())
        assert (report.reason, "No such file" in report.evidence) == ("browser", True)
        assert one.leftovers() == []


async def test_cancelled_the_worker_is_killed_and_the_next_run_is_well() -> None:
    with ward(bad("hangs")) as one:
        before = descriptors()
        for delay in (0, 0.001, 0.02, 0.1, 0.2):
            task = asyncio.create_task(one.run(job()))
            await asyncio.sleep(delay)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await one.nothing_left(2)
        async with asyncio.timeout(20):                    # a look at the processes that nobody waits for any more may still go on
            while descriptors() != before:  # noqa: ASYNC110 - a thread tells nobody
                await asyncio.sleep(0.02)


async def test_a_worker_that_ends_while_nothing_runs_is_swept_up() -> None:
    with ward(bad("fine")) as one:
        (first,) = await pids(one, 1)
        one.strike("all", 9)
        await one.nothing_left(2)
        (second,) = await pids(one, 1)
        one.strike("all", 19)                              # stopped: found before the next run
        (third,) = await pids(one, 1)
        assert len({first, second, third}) == 3
        await one.keeper.close()
        await one.nothing_left(0)


async def test_the_worker_sees_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILLWATCH_TOKEN", "very-secret")
    with ward(bad("fine")) as one:
        seen: list[str] = []
        one.on_step = lambda _: seen.extend(Path(f"/proc/{pid}/environ").read_text() for pid in one.find("all"))
        await one.keeper.run(job(), one._hear, allow)
        assert len(seen) == 1
        assert "very-secret" not in seen[0]
        assert f"HOME={one.base}" in seen[0]
        await one.keeper.close()
