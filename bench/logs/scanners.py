"""MB of log per CPU second: the scanner of error_log beside mtail, ripgrep and grep, on one core and out of the page cache.

    python bench/logs/scanners.py DIR [--mib 64] [--runs 3] [--errors 0.01,0.05] [--only access.log,...] [--json FILE]

Makes the logs in DIR (see make_logs.py) and lets all take turns, so that a busy machine hits them alike: quote the ratios. Medians of `--runs`.
*preset*: count the lines with the pattern of this kind of log. *generic*: those with one of ten words in any case, or a 5xx. Rivals and ours
get the same patterns and must count the same lines. *whole*: everything that a probe does with a log: events with their traces, levels,
signatures, requests by group. mtail's programs count lines and errors. CPU is user + system: of a rival its whole process, of ours from the
opening of the file on, with the compiling of patterns but without the start of Python, which a daemon has behind it. Needs Debian's mtail and
ripgrep.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from make_logs import LOGS, make

from probes.error_log import engine
from probes.error_log.engine import finder, lines
from probes.error_log.event import Level
from probes.error_log.scan import Scanner
from probes.error_log.tally import Tally

MOST_KNOWN = 2000          # events of which the cost of knowing them again is measured
SLICE = 1 << 18            # bytes that are read at once
FORMATS = {"access.log": "combined", "error.log": "nginx_error", "app.jsonl": "json", "traces.log": "php"}
PRESETS = {
    "access.log": '" 5[0-9][0-9] ', "error.log": r"\[(error|crit|alert|emerg)\]", "app.jsonl": '"level": "(ERROR|CRITICAL|FATAL)"',
    "traces.log": r"PHP (Fatal|Parse) error|Traceback \(most recent call last\)|\] ERROR "}
WORDS = r"\b(error|fatal|critical|exception|panic|traceback|uncaught|failed|refused|timed out)\b"
GENERIC = rf'(?i){WORDS}|" 5[0-9][0-9] '
MTAIL = "counter lines\ncounter errors\n/$/ {\n  lines++\n}\n/%s/ {\n  errors++\n}\n"
RIVALS = {"mtail": "mtail", "ripgrep": "rg", "grep": "grep"}


def pieces(path: Path) -> Iterator[tuple[bytes, bool]]:
    """Whole lines, and whether they are the last."""
    with path.open("rb", buffering=0) as file:
        rest = b""
        while data := file.read(SLICE):
            end = data.rfind(b"\n") + 1
            if end:
                yield rest + data[:end], False
                rest = data[end:]
            else:
                rest += data
        yield rest, True


def ours(path: Path, mode: str, pattern: str, *, fast: bool) -> int:
    """Count lines, or events with `mode` "whole"."""
    if mode == "whole":
        return whole(path, Scanner(FORMATS[path.name], level="error", fast=fast))
    find, found, seen = finder(pattern, fast=fast), 0, 0
    for data, _ in pieces(path):
        seen += data.count(b"\n")
        found += sum(1 for _ in lines(data, find(data)))
    return found


def whole(path: Path, scanner: Scanner) -> int:
    held = b""
    for more, last in pieces(path):
        data = held + more
        held = data[scanner.read(data, last):] if data else b""
    return scanner.tally.events.total()


def measured(path: Path, mode: str, pattern: str, engine_name: str) -> tuple[float, int]:
    """CPU seconds and count of ours, in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), str(path), "--ours", mode, "--pattern", pattern, "--engine", engine_name]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found["cpu"], found["count"]


def run(command: list[str]) -> tuple[float, int]:
    """CPU seconds and count of a rival."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode > 1:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()[-300:]}")
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if command[0] != "mtail":
        return spent, int(done.stdout.split()[0])
    return spent, json.JSONDecoder().raw_decode(done.stdout[done.stdout.index("{"):])[0]["errors"][0]["LabelValues"][0]["Value"]["Value"]


def rival(tool: str, path: Path, pattern: str, folder: Path) -> list[str]:
    if tool == "ripgrep":
        return ["rg", "--no-config", "-c", "-j1", pattern, str(path)]
    if tool == "grep":
        return ["grep", "-c", *(["-iE", pattern[4:]] if pattern.startswith("(?i)") else ["-E", pattern]), str(path)]
    programs = Path(tempfile.mkdtemp(dir=folder))
    (programs / "errors.mtail").write_text(MTAIL % pattern.replace("/", "\\/"))
    return ["mtail", "--one_shot", "--progs", str(programs), "--logs", str(path), "--logtostderr"]


class Noting(Scanner):
    """Keeps the texts of events."""

    texts: tuple[bytes, ...] = ()

    def _add(self, text: bytes, floor: Level | None = None) -> None:
        self.texts += (text,) if len(self.texts) < MOST_KNOWN else ()
        super()._add(text, floor)


def known_again(path: Path) -> float:
    """Microseconds for each event whose signature was seen before: a log of errors only, the second time."""
    format_ = FORMATS[path.name]
    if format_ == "combined":
        find = finder(PRESETS[path.name])
        texts = [data[begin:end] for data, _ in pieces(path) for begin, end in lines(data, find(data))][:MOST_KNOWN]
    else:
        noting = Noting(format_, level="error")
        whole(path, noting)
        texts = list(noting.texts)
    scanner, data, spent = Scanner(format_, level="error"), b"\n".join(texts) + b"\n", []
    for _ in range(6):
        scanner.tally = Tally()
        begun = time.process_time()
        scanner.read(data, True)
        spent.append((time.process_time() - begun) / scanner.tally.events.total() * 1e6)
    return min(spent[1:])


def contest(path: Path, runs: int, folder: Path) -> dict[tuple[str, str], tuple[float, int]]:
    """(tool, mode) → median CPU seconds, count."""
    spent: dict[tuple[str, str], list[float]] = defaultdict(list)
    counts: dict[tuple[str, str], int] = {}
    tools = [tool for tool, command in RIVALS.items() if shutil.which(command)]
    engines = ["fast", "re2"] if engine.hyperscan else ["re2"]
    for _ in range(runs):
        for mode, pattern in (("preset", PRESETS[path.name]), ("generic", GENERIC)):
            for tool in tools:
                seconds, counts[tool, mode] = run(rival(tool, path, pattern, folder))
                spent[tool, mode].append(seconds)
        for name in engines:
            for mode, pattern in (("preset", PRESETS[path.name]), ("generic", GENERIC), ("whole", "")):
                seconds, counts[name, mode] = measured(path, mode, pattern, name)
                spent[name, mode].append(seconds)
    for mode in ("preset", "generic"):
        if len(found := {counts[tool, mode] for tool in (*tools, *engines)}) > 1:
            print(f"{path.name}: they do not agree on {mode}: {found}", file=sys.stderr)
    return {key: (median(seconds), counts[key]) for key, seconds in spent.items()}


def row(rate: str, path: Path, found: dict[tuple[str, str], tuple[float, int]], known: float) -> dict[str, object]:
    size = path.stat().st_size / 1e6
    speed = {f"{tool} {mode}": round(size / max(seconds, 0.001), 1) for (tool, mode), (seconds, _) in found.items()}
    best = "fast" if ("fast", "whole") in found else "re2"

    def ratio(one: str, other: str) -> float | None:
        return round(speed[one] / speed[other], 2) if one in speed and other in speed else None
    return {
        "log": path.name, "errors": rate, "MB per CPU s": speed, "counts": {f"{tool} {mode}": count for (tool, mode), (_, count) in found.items()},
        "preset / mtail": ratio(f"{best} preset", "mtail preset"), "whole / mtail": ratio(f"{best} whole", "mtail preset"),
        "generic / mtail": ratio(f"{best} generic", "mtail generic"), "generic / ripgrep": ratio(f"{best} generic", "ripgrep generic"),
        "µs per known error": round(known, 2)}


def table(rows: list[dict[str, object]]) -> None:
    speeds = sorted({name for row in rows for name in row["MB per CPU s"]}, key=lambda name: (name.split()[1], name))        # type: ignore[attr-defined]
    ratios = [name for name in rows[0] if "/" in name or "µs" in name]
    print("| | " + " | ".join(f"{row['log']}, {float(str(row['errors'])):.0%}" for row in rows) + " |\n|---|" + "---|" * len(rows))
    for name in speeds:
        print(f"| {name} | " + " | ".join(f"{row['MB per CPU s'].get(name, '')}" for row in rows) + " |")                     # type: ignore[attr-defined]
    for name in ratios:
        print(f"| **{name}** | " + " | ".join("" if row[name] is None else str(row[name]) for row in rows) + " |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mib", type=float, default=64)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--errors", default="0.01,0.05")
    parser.add_argument("--only", default=",".join(LOGS))
    parser.add_argument("--json", type=Path)
    for hidden in ("--ours", "--pattern", "--engine"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours:
        begun = time.process_time()
        count = ours(arguments.folder, arguments.ours, arguments.pattern, fast=arguments.engine == "fast")
        print(json.dumps({"cpu": time.process_time() - begun, "count": count}))
        return
    for tool, command in RIVALS.items():
        if not shutil.which(command):
            print(f"{tool} is not installed and left out: apt-get install {tool}", file=sys.stderr)
    if engine.hyperscan is None:
        print("hyperscan is not installed: only re2 is measured", file=sys.stderr)
    rows = []
    with tempfile.TemporaryDirectory() as programs:
        for rate in arguments.errors.split(","):
            folder = arguments.folder / rate
            make(folder, arguments.mib, float(rate))
            for name in arguments.only.split(","):
                found = contest(folder / name, arguments.runs, Path(programs))
                rows.append(row(rate, folder / name, found, known_again(folder / name)))
                print(f"{name} at {rate} done", file=sys.stderr)
    table(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
