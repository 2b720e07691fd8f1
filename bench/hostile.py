"""Hostile targets beside healthy ones, for as long as wanted: what the healthy ones and the monitor notice of them.

    python bench/hostile.py [--minutes 10] [--interval 5]

100 healthy shops, and every hostile target of tests/probes/street.py, in processes of their own; the daemon's scheduler,
probe, resolver and event loop in this one. The first third of the time is quiet (healthy shops only), then all come
together: both columns are of one process. Lags and lateness are counted without the time for which the machine kept this
thread from the processor (tests/probes/neighbourhood.py). Ends with 1 if a promise is broken.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "probes"))

import uvloop
from neighbourhood import Stay, Street, Target, memory, peak, percentile, stay, threads

from probes.clients import Clients

WARM = 10.0                 # s before the quiet part, not counted
ADDED, LATENESS, LAG, MEMORY, GRACE = 0.05, 0.1, 0.25, 64.0, 0.5     # s, s, s, MB, s


def figures(seen: Stay, healthy: list[Target], grown: int) -> dict[str, float]:
    """One column of the table; durations in ms, memory in MB."""
    everyone, nice = seen.records.values(), seen.of(healthy)
    late = [late for record in nice for late in record.late]
    seconds = [took for record in nice if "silent IPv6" not in record.target.name for took in record.seconds]     # that one takes 250 ms
    return {
        "runs": sum(len(record.seconds) for record in everyone),
        "healthy runs": len(late),
        "healthy runs that were not ok": sum(record.failed for record in nice),
        "healthy runs left out": sum(record.missed for record in nice),
        "healthy duration p50": 1e3 * percentile(seconds, 0.5),
        "healthy duration p99": 1e3 * percentile(seconds, 0.99),
        "start lateness p99": 1e3 * percentile(late, 0.99),
        "start lateness max": 1e3 * max(late, default=0.0),
        "loop lag p99.9": 1e3 * percentile(seen.lags, 0.999),
        "loop lag max": 1e3 * max(seen.lags),
        "loop lag max, with what the machine withheld": 1e3 * seen.worst_raw_lag,
        "a run outlasted its deadline by, at most": 1e3 * max(0.0, *(record.over for record in everyone)),
        "wrong reasons": sum(record.failed for record in everyone),
        "RSS growth, MB": grown / 1e3,
        "RSS at the end, MB": memory("VmRSS") / 1e3,
        "threads at the end": threads(),
    }


async def measure(minutes: float, interval: float) -> bool:
    """Print the table; whether all promises were kept."""
    with tempfile.TemporaryDirectory(prefix="bench-hostile-") as folder:
        async with (Street("healthy", Path(folder, "healthy")) as healthy, Street("hostile", Path(folder, "hostile")) as hostile,
                    Clients([healthy.names]) as clients):
            await stay(healthy.targets, clients, seconds=WARM, interval=interval)
            with peak() as grown:
                seen = await stay(healthy.targets, clients, seconds=20 * minutes, interval=interval)
            quiet = figures(seen, healthy.targets, grown["kB"])
            with peak() as grown:
                seen = await stay([*healthy.targets, *hostile.targets], clients, seconds=40 * minutes, interval=interval)
            together = figures(seen, healthy.targets, grown["kB"])
            count = len(hostile.targets)
    print(f"{'':46} {'quiet':>10} {f'with {count} hostile':>16}")
    for name, value in quiet.items():
        print(f"{name:46} {value:10.1f} {together[name]:16.1f}")
    for name, reason, evidence in sorted(seen.wrong()):
        print(f"wrong: {name}: {reason or 'ok'} {evidence}")
    return kept(quiet, together)


def kept(quiet: dict[str, float], together: dict[str, float]) -> bool:
    """Whether the promises held; says which did not."""
    added = together["healthy duration p99"] - quiet["healthy duration p99"]
    promises = {
        "no healthy run fails or is left out": together["healthy runs that were not ok"] + together["healthy runs left out"] == 0,
        "each hostile target has its reason": together["wrong reasons"] == 0,
        f"ends no later than its deadline + {GRACE} s": together["a run outlasted its deadline by, at most"] <= 1e3 * GRACE,
        f"healthy ones take {added:.1f} ms longer at p99 (at most {1e3 * ADDED:.0f})": added <= 1e3 * ADDED,
        f"healthy ones start on time (p99 at most {1e3 * LATENESS:.0f} ms)": together["start lateness p99"] <= 1e3 * LATENESS,
        f"loop lag at most {1e3 * LAG:.0f} ms": together["loop lag max"] <= 1e3 * LAG,
        f"RSS growth at most {MEMORY:.0f} MB": together["RSS growth, MB"] <= MEMORY,
    }
    for promise, held in promises.items():
        print(f"{'kept  ' if held else 'BROKEN'} {promise}")
    return all(promises.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--interval", type=float, default=5)
    options = parser.parse_args()
    sys.exit(0 if uvloop.run(measure(options.minutes, options.interval)) else 1)


if __name__ == "__main__":
    main()
