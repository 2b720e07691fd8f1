"""A burst of log lines, and a thousand files: is the probe in time, does the event loop stay free, what does it take?

  python bench/logs/burst.py [--mb 100] [--seconds 5] [--files 1000]

A process of its own writes an access log at that rate. The probe runs on the daemon's event loop (uvloop) once a second, as the daemon
would run it; beside it a timer looks every 5 ms how late it is. The thousand files get a line each between the runs.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from probes.clients import Clients
from probes.error_log.probe import probe
from probes.error_log.settings import ErrorLogSettings

LINE = ('198.51.100.{} - - [27/Nov/2026:18:00:00 +0000] "GET /product/{} HTTP/1.1" {} 5120 "https://shop.example/" '
        '"Mozilla/5.0 (X11; Linux x86_64)" 0.012\n')
WRITER = """
import sys, time
path, size, seconds = sys.argv[1], float(sys.argv[2]) * 1e6, float(sys.argv[3])
piece = sys.stdin.buffer.read()
begun, written = time.monotonic(), 0
with open(path, "ab", buffering=0) as file:
    while written < size:
        written += file.write(piece)
        time.sleep(max(0.0, begun + written / size * seconds - time.monotonic()))
print(written // len(piece), time.time())
"""


async def lateness(worst: list[float]) -> None:
    """How late a timer of 5 ms is, for ever."""
    while True:
        due = time.perf_counter() + 0.005
        await asyncio.sleep(0.005)
        worst.append(time.perf_counter() - due)


async def burst(folder: Path, mb: float, seconds: float) -> dict[str, object]:
    """Follow a file that grows by so many MB within these seconds."""
    path = folder / "access.log"
    path.touch()
    piece = "".join(LINE.format(n % 250, n, 500 if n % 100 == 0 else 200) for n in range(500)).encode()
    settings = ErrorLogSettings.model_validate({"name": "burst", "paths": [str(path)], "timeout": "900ms", "format": "combined"})
    late: list[float] = []
    async with Clients() as clients:
        sample = await probe(settings, clients, None)
        watching = asyncio.create_task(lateness(late))
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(mb), str(seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: ASYNC220
        assert writer.stdin
        assert writer.stdout
        writer.stdin.write(piece)
        writer.stdin.close()
        lines, longest, behind = 0, 0.0, 0.0
        spent = time.process_time()
        while True:
            begun = time.monotonic()
            sample = await probe(settings, clients, sample.checkpoint)
            lines, longest, behind = lines + sample.counts["lines"], max(longest, sample.seconds), max(behind, sample.facts["log_bytes_behind"])
            if writer.poll() is not None and not sample.counts["lines"] and not sample.facts["log_bytes_behind"]:
                break
            caught_up = time.time()
            await asyncio.sleep(max(0.0, begun + 1.0 - time.monotonic()))
        spent = time.process_time() - spent
        watching.cancel()
    pieces, ended = writer.stdout.read().split()
    assert lines == int(pieces) * 500, (lines, int(pieces) * 500)
    late.sort()
    return {"lines": lines, "caught up, s after the last line": round(max(0.0, caught_up - float(ended)), 2), "longest run, s": round(longest, 2),
            "most bytes behind after a run": int(behind), "CPU s": round(spent, 2),
            "loop lag ms, p99 and worst": (round(late[int(len(late) * 0.99)] * 1e3, 1), round(late[-1] * 1e3, 1))}


async def thousand(folder: Path, files: int) -> dict[str, object]:
    """Follow so many files, each with a line more at every run."""
    for number in range(files):
        (folder / f"shop-{number}.log").write_text("2026-11-27 18:00:00,000 INFO [shop] up\n" * 40)
    settings = ErrorLogSettings.model_validate({"name": "many", "paths": [str(folder / "*.log")], "timeout": "4s", "format": "python"})
    before, took, cpu = rss(), [], []
    async with Clients() as clients:
        sample = await probe(settings, clients, None)
        for run in range(12):
            for number in range(0, files, 1 if run % 2 else 50):
                with (folder / f"shop-{number}.log").open("a") as file:
                    file.write(f"2026-11-27 18:00:00,000 {'ERROR' if number % 10 == 0 else 'INFO'} [shop] order {number} failed\n")
            spent = time.process_time()
            sample = await probe(settings, clients, sample.checkpoint)
            cpu.append(time.process_time() - spent)
            took.append(sample.seconds)
            if run % 2:
                assert sample.counts["lines"] >= files * 0.9, sample.counts
            await asyncio.sleep(0.2)
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
    return {"RSS MB more": round(rss() - before, 1), "checkpoint kB": round(len(sample.checkpoint or b"") / 1e3), "descriptors": descriptors,
            "s a run, all files grew / one in fifty": (round(max(took[1::2]), 3), round(max(took[2::2]), 3)),
            "CPU s of these": (round(max(cpu[1::2]), 3), round(max(cpu[2::2]), 3))}


def rss() -> float:
    """Resident memory now, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    """Run both, print JSON."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--mb", type=float, default=100.0)
    ask.add_argument("--seconds", type=float, default=5.0)
    ask.add_argument("--files", type=int, default=1000)
    given = ask.parse_args()
    sys.setswitchinterval(0.001)             # as the daemon does
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        print(json.dumps({"a thousand files": uvloop.run(thousand(Path(other), given.files))}), flush=True)
        print(json.dumps({"burst": uvloop.run(burst(Path(one), given.mb, given.seconds))}), flush=True)


if __name__ == "__main__":
    main()
