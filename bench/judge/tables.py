"""The measured figures of the judge as Markdown, and their place in docs/judge.md."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OURS = "Tillwatch"
BLOCKS = ("figures", "others", "trade-off")      # of the page, between <!-- measured NAME: ... --> and <!-- end of measured NAME -->
KINDS = ("cpu_consumed", "cpu_contention", "network_delay", "slowing", "exception", "return", "placebo")


@dataclass(frozen=True, slots=True)
class Found:
    """In how many of the tries there was an alarm, and the median of the samples until then."""

    tries: int
    found: int
    median: float | None

    @property
    def percent(self) -> float:
        """Of the tries."""
        return 100 * self.found / max(self.tries, 1)

    def __str__(self) -> str:
        return f"{self.percent:.0f}/{self.median:.0f}" if self.median is not None else "0"


@dataclass(frozen=True, slots=True)
class Row:
    """One detector on one set of histories."""

    name: str
    set: str
    windows: int
    false: int
    quiet: int
    false_quiet: int
    harms: Mapping[str, Found]

    @property
    def all_rate(self) -> float:
        """False alarms per 100 placebo updates."""
        return 100 * self.false / max(self.windows, 1)

    @property
    def quiet_rate(self) -> float:
        """The same of those in which nothing real happened."""
        return 100 * self.false_quiet / max(self.quiet, 1)


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    """Rows of a Markdown table."""
    return [_line(head), "|" + "---|" * len(head), *(_line(cells) for cells in lines)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def rows(of: Sequence[Row]) -> list[str]:
    """One set: false alarms, then "found within 60 % / median delay in samples" for each harm."""
    first = of[0]
    head = ["judged by", "false per 100, all", "quiet", *first.harms]
    body = [[row.name, f"{row.all_rate:.1f}", f"{row.quiet_rate:.1f}", *map(str, row.harms.values())] for row in of]
    widest = max(of, key=lambda row: row.windows)
    return ["", *table(head, body), "", f"{first.set}: {widest.windows} placebo updates, {widest.quiet} of them quiet; harm in "
            f"{max(found.tries for found in widest.harms.values())} quiet ones: % found within 60 samples / median delay in samples"]


def faults(of: Mapping[str, Mapping[str, Found]]) -> list[str]:
    """Real faults by type; "slowing" is the sum of the three before it."""
    kinds = [kind for kind in KINDS if kind in next(iter(of.values()))]
    head = ["judged by", *(kind.replace("slowing", "these together") for kind in kinds)]
    return ["", *table(head, [[name, *(_of(by[kind]) for kind in kinds)] for name, by in of.items()])]


def _of(found: Found) -> str:
    return f"{found.found} of {found.tries}" + (f" / {found.median:.0f}" if found.median is not None else "")


def curve(of: Sequence[Row], prefix: str) -> list[str]:
    """False alarms against detection."""
    kept = [row for row in of if row.name.startswith(prefix)]
    head = ["`false_alarm_rate`", "false per 100, quiet", *(SHORT[harm] for harm in kept[0].harms)]
    return ["", *table(head, [[row.name.removeprefix(prefix), f"{row.quiet_rate:.1f}", *map(str, row.harms.values())] for row in kept])]


def passes(ends: Mapping[str, int], watched: int) -> str:
    """How good updates end, in words."""
    total = sum(count for verdict, count in ends.items() if verdict != "after")
    told = ", ".join(f"{verdict} {count}" for verdict, count in ends.items() if verdict != "after")
    return f"quiet updates of {watched} samples: {told} (of {total}); a pass after a median of {ends['after']} samples"


# The page


def into_page(text: str, results: Mapping[str, Any], run: Sequence[str], every: Sequence[str], prefix: str) -> str:
    """The page with its measured blocks renewed: rows of the detectors that were `run`; the rest of `every` stay as they are."""
    text = _renewed(text, "others", lambda old: _beside_others(old, results, run, every))
    if OURS in run:
        text = _renewed(text, "trade-off", lambda _: curve(results["probes"]["rows"], prefix)[1:])
        text = _renewed(text, "figures", lambda _: _figures(results))
    return text


def lacking(text: str) -> list[str]:
    """The blocks that the page should have and has not."""
    return [block for block in BLOCKS if not _block(block).search(text)]


def _block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- measured {name}: [^>]*-->\n)(.*?)(\n<!-- end of measured {name} -->)", re.DOTALL)


def _renewed(text: str, block: str, lines: Callable[[str], list[str]]) -> str:
    found = _block(block).search(text)
    assert found, f"no block {block}"
    return text[:found.end(1)] + "\n" + "\n".join(lines(found[2])) + "\n" + text[found.start(3):]


def _beside_others(old: str, results: Mapping[str, Any], run: Sequence[str], every: Sequence[str]) -> list[str]:
    by_set = {set_: {row.name: row for row in results[set_]["rows"]} for set_ in ("probes", "minute")}
    lines = {line.split("|")[1].strip(): line for line in old.splitlines() if line.startswith("|")}
    for name in run:
        row, real = by_set["probes"][name], results["faults"][name]
        lines[_bold(name)] = _line([
            _bold(name), f"{row.quiet_rate:.1f}", f"{by_set['minute'][name].quiet_rate:.1f}", *map(str, row.harms.values()),
            _of(real["slowing"]), f"{real['placebo'].found} of {real['placebo'].tries}"])
    head = ["judged by", "false per 100: probes", "minutes", *SHORT.values(), "real faults", "false there"]
    return [*table(head, []), *(lines.get(_bold(name), _line([name, "not run", *[""] * (len(head) - 2)])) for name in every)]


def _bold(name: str) -> str:
    return f"**{name}**" if name == OURS else name


SHORT = {
    "x1.2": "× 1.2", "x1.5": "× 1.5", "x2": "× 2", "x3": "× 3", "fail5%": "5 % fail", "fail20%": "20 % fail", "outage": "down",
    "p95 10%x5": "1 in 10 × 5",
}
WORDS = {
    "outage": "down", "fail20%": "20 % of the runs fail", "fail5%": "5 % of the runs fail", "x3": "three times as slow", "x2": "twice as slow",
    "x1.5": "half as slow again", "x1.2": "20 % slower", "p95 10%x5": "one run in ten takes five times as long",
}


def _figures(results: Mapping[str, Any]) -> list[str]:
    ours = {set_: next(row for row in results[set_]["rows"] if row.name == OURS) for set_ in ("probes", "minute")}
    probes, real = ours["probes"], results["faults"][OURS]
    lines = [
        [WORDS[harm], f"{found.percent:.0f} %", f"{found.median or 0:.0f}", f"{(found.median or 0) / 2:g} min"]
        for harm, found in ((harm, probes.harms[harm]) for harm in WORDS)
    ]
    share = {set_: _pass_share(results[set_]["ends"]) for set_ in ours}
    calm = [
        ["false regressions per 100 updates, quiet windows", f"{probes.quiet_rate:.1f}"],
        ["the same, minute-sampled demo shops", f"{ours['minute'].quiet_rate:.1f}"],
        ["false regressions per 100 updates, all windows (seven of a hundred hold a real change)", f"{probes.all_rate:.1f}"],
        ["quiet updates that pass within 240 runs", f"{share['probes']:.0f} % (minute-sampled demo shops: {share['minute']:.0f} %)"],
        ["false regressions before real injected faults", f"{real['placebo'].found} of {real['placebo'].tries}"],
    ]
    return [
        *table(["what happened to the shop", "found within 60 runs", "median, in runs", "at 30 s"], lines), "",
        *table(["what did not happen", "measured"], calm), "",
        f"{results['probes']['sites']} sites, {results['probes']['runs']:,} real runs, one target each; harm was put into "
        f"{probes.harms['x2'].tries} quiet windows."]


def _pass_share(ends: Mapping[str, int]) -> float:
    return 100 * ends["pass"] / max(sum(count for verdict, count in ends.items() if verdict != "after"), 1)
