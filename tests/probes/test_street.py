"""100 healthy shops beside every hostile target that we know, in one monitor: nobody suffers for another.

The scheduler, the probe, the resolver and the event loop are the daemon's own; the servers run in processes of their own.
"""

from itertools import chain
from pathlib import Path

import pytest
from neighbourhood import Stay, Street, peak, percentile, stay, threads

from probes.clients import Clients

QUIET, TOGETHER = 4.0, 24.0     # s
INTERVAL = 3.0                  # s between the runs of a target
GRACE = 0.5                     # s after its deadline until a run must have ended
LATENESS = 0.1                  # s, p99
LAG = 0.25                      # s, at most
MEMORY = 64_000                 # kB
ALONE = 40                      # threads: a look-up that is asked for again has one of its own while it lasts


@pytest.mark.timeout(240)
async def test_street(tmp_path: Path) -> None:
    async with (Street("healthy", tmp_path / "healthy") as healthy, Street("hostile", tmp_path / "hostile") as hostile,
                Clients([healthy.names]) as clients):
        await stay(healthy.targets, clients, seconds=QUIET, interval=INTERVAL)
        before = threads()
        with peak() as grown:
            seen = await stay([*healthy.targets, *hostile.targets], clients, seconds=TOGETHER, interval=INTERVAL)
        after = threads()
    assert len(healthy.targets) == 100
    assert len(hostile.targets) > 85
    report = told(seen, healthy, grown["kB"])
    print(report)
    # Each ends no later than its deadline + 0.5 s, with its reason.
    assert seen.wrong() == set()
    assert {record.target.name for record in seen.records.values() if record.over > GRACE} == set()
    assert {record.target.name for record in seen.records.values() if len(record.seconds) + record.excused < 4} == set()
    # No healthy one fails or is left out, and they start on time.
    assert {record.target.name for record in seen.of(healthy.targets) if record.failed or record.missed} == set()
    assert percentile(chain.from_iterable(record.late for record in seen.of(healthy.targets)), 0.99) <= LATENESS, report
    # And the monitor itself stays well.
    assert max(seen.lags) <= LAG, report
    assert grown["kB"] <= MEMORY, report
    assert after <= before + ALONE, report


def told(seen: Stay, healthy: Street, grown: int) -> str:
    late = [late for record in seen.of(healthy.targets) for late in record.late]
    runs = sum(len(record.seconds) for record in seen.records.values())
    return (f"{runs} runs; healthy ones late p99 {1e3 * percentile(late, 0.99):.0f} ms; loop lag at most {1e3 * max(seen.lags):.0f} ms "
            f"(with what the machine withheld {1e3 * seen.worst_raw_lag:.0f} ms); RSS +{grown / 1000:.0f} MB")
