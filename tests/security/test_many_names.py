"""Hostile names and endless error texts: the exposition stays valid, and its size depends on the configuration alone (T94)."""

import asyncio
import random
import subprocess
import time

import pytest

from monitor.exporter import Exporter
from monitor.health import Target
from monitor.updates import Update
from probes.reasons import REASONS
from probes.sample import Outcome, Sample

AWKWARD = '"\\\n\r\t{},=#\'`$<>&;\u2028\u202e\u00e4\u65e5\U0001f600\x00\x1b %'


def hostile_names(count: int) -> list[str]:
    chance = random.Random(7)
    return ["".join(chance.choices(AWKWARD + "ab", k=40)) + str(number) for number in range(count)]


async def exposed(exporter: Exporter, *, open_metrics: bool = False) -> tuple[str, float]:
    """The exposition, and the longest time in s for which it held the loop: of the processor, which others want too."""
    longest, since = 0.0, time.thread_time()

    async def pause() -> None:
        nonlocal longest, since
        longest = max(longest, time.thread_time() - since)
        await asyncio.sleep(0)
        since = time.thread_time()
    text = b"".join([part async for part in exporter.render(pause, open_metrics=open_metrics)]).decode()
    return text, longest


def promtool_takes(text: str) -> None:
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30, check=False)
    assert "error" not in done.stderr.lower(), done.stderr[:500]
    assert done.returncode in {0, 3}, done.stderr[:500]                    # 3: lint, such as a name of blackbox_exporter's without a unit


def series(text: str) -> int:
    return sum(1 for line in text.split("\n") if line and not line.startswith("#"))


@pytest.mark.parametrize("open_metrics", [False, True])
async def test_a_thousand_hostile_names_are_a_valid_exposition(*, open_metrics: bool) -> None:
    targets: list[Target] = [(name, "", "") for name in hostile_names(1000)]
    exporter = Exporter(AWKWARD * 2, targets)
    for target in targets:
        exporter.observe(Sample(target[0], Outcome.FAILED, "status", 0.1, evidence=AWKWARD, values={"tls": 0.1}, facts={"status_code": 500.0}))
    exporter.update(Update("2026-09-21-1", AWKWARD, 1.79e9, AWKWARD, phase=AWKWARD))
    text, longest = await exposed(exporter, open_metrics=open_metrics)
    assert longest < 0.05
    if open_metrics:                                                       # promtool reads the text format only
        from prometheus_client.openmetrics.parser import text_string_to_metric_families
        assert {s.labels["probe"] for f in text_string_to_metric_families(text) for s in f.samples if s.name == "probe_success"} == {
            name for name, _, _ in targets}
    else:
        promtool_takes(text)


async def test_a_hundred_thousand_error_texts_are_no_series_more() -> None:
    targets: list[Target] = [("home", "", ""), ("pay", "", "")]
    exporter, sizes, reasons = Exporter("till", targets), [], sorted(REASONS)
    for number in range(100_000):
        reason = reasons[number % len(reasons)]
        text = f"{number} {AWKWARD} https://shop.example/{number}?token={number}"
        exporter.observe(Sample(targets[number % 2][0], Outcome.FAILED, reason, 0.1, evidence=text))
        if number in {1000, 99_999}:
            sizes.append(series((await exposed(exporter))[0]))
    assert sizes[0] == sizes[1] <= 2 * (len(REASONS) + 60) + 200
    text, _ = await exposed(exporter)
    assert "token=" not in text


def test_each_target_has_a_bounded_number_of_series() -> None:
    """So 10,000 series are enough for a hundred probes, whatever the shop answers: reasons are a closed list."""
    assert len(REASONS) <= 60
