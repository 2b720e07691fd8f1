"""What a backtest says: in plain words first, then in numbers; on a terminal or as one JSON document."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from monitor.backtest.source import Source, label
from monitor.clock import iso, span
from monitor.judge.backtest import ROLLOUT, Placed, required
from monitor.judge.ruling import REASONS
from monitor.judge.tally import WEEK, Share, Tally, Took
from monitor.terminal import escape, moment

MOST_SHOWN = 5              # false regressions, and names of a kind
_SKIPPED = {
    "update": "a real update was under way", "gap": "the monitor was not running, or runs are missing",
    "short": "there are too few runs before it that are no outage",
}


def tables(source: Source, tally: Tally, skipped: Mapping[str, int]) -> None:
    """On stdout, for people."""
    console = Console(width=None if sys.stdout.isatty() else 160, soft_wrap=True, highlight=False)
    for line in sentences(source, tally):
        console.print(escape(line))
    console.print()
    console.print(_harms(tally))
    console.print()
    for one in tally.false[:MOST_SHOWN]:
        console.print(escape(f"false regression {moment(one.at)}: {one.harmless.sentence} ({', '.join(one.harmless.guilty)})"))
    if len(tally.false) > MOST_SHOWN:
        console.print(f"... and {len(tally.false) - MOST_SHOWN} more: --json lists all")
    for line in _small_print(source, tally, skipped):
        console.print(escape(line), style="dim")


def document(source: Source, tally: Tally, skipped: Mapping[str, int]) -> dict[str, Any]:
    """For programs; all times in s, moments in RFC 3339."""
    shops, settings = source.shops, source.shops[0].plan.settings
    facts = tally.to_dict()
    for one in facts["false_regressions"]:
        one["at"] = iso(one["at"])
    return {
        "source": source.name, "settings": source.settings,
        "from": iso(min(shop.begun for shop in shops)), "until": iso(max(shop.ended for shop in shops)),
        "runs": sum(len(history.runs) for shop in shops for history in shop.histories),
        "probes": _names(source), "harmed_probes": _harmed(source), "left_out": [{"what": what, "why": why} for what, why in source.left_out],
        "notes": list(source.notes), "skipped": dict(skipped), "sentences": list(sentences(source, tally)),
        "false_alarm_rate": settings.false_alarm_rate, "rollout_seconds": ROLLOUT,
    } | facts


# Words


def sentences(source: Source, tally: Tally) -> Iterator[str]:
    """What the numbers mean, for a shop owner."""
    yield _pages(tally.regressions)
    yield from _enough(tally.regressions, source.shops[0].plan.settings.false_alarm_rate)
    yield _passes(tally)
    yield _outages(tally, known=source.own_updates > 0)
    if tally.disturbed.of:
        yield (f"{_counted(tally.disturbed.of, 'more update')} met an outage or an incident: {tally.disturbed.hits} of them called a regression, "
               "which is not counted as false.")


def _pages(found: Share) -> str:
    lower, upper = (100 * bound for bound in found.bounds)
    if not found.of:
        return "No harmless update could be replayed: each one met an outage or an incident."
    if not found.hits:
        return f"None of {_counted(found.of, 'harmless update')} would have paged as a regression: at most {upper:.1f} of 100 would (95 %)."
    per = 100 * (found.share or 0.0)
    return f"Of 100 harmless updates {per:.1f} would have paged as a regression ({lower:.1f} to {upper:.1f}): {found.hits} of {found.of}."


def _enough(found: Share, rate: float) -> Iterator[str]:
    """Whether the promise can be held against the history at all."""
    lower, upper = found.bounds
    if found.of and lower > rate:
        yield (f"That is more than the {100 * rate:g} of 100 that is promised. Look at the updates named below: if the shop really got worse then, "
               "it counts as false all the same.")
    elif found.of and upper > rate:
        wanted = 3.84 * (1 - rate) / rate              # Wilson's upper bound of none in n is 3.84 / (n + 3.84)
        yield f"To show the promised {100 * rate:g} of 100, {wanted:.0f} updates without a page are needed; the history tells no more than this."


def _passes(tally: Tally) -> str:
    passes = tally.passes
    if not passes.of:
        return "How many pass cannot be said."
    lower, upper = (100 * bound for bound in passes.bounds)
    text = f"{100 * (passes.share or 0.0):.0f} % of the harmless updates pass ({lower:.0f} to {upper:.0f})"
    if tally.pass_took.seconds is not None:
        text += f", half of them within {span(tally.pass_took.seconds)} of their finish"
    others = [f"{count} inconclusive, because {_reason(name)}" for name, count in sorted(tally.inconclusive.items(), key=lambda pair: -pair[1])]
    return "; ".join([text, *others]) + "."


def _reason(name: str) -> str:
    return f"{REASONS[name]} ({name})" if name in REASONS else name


def _outages(tally: Tally, *, known: bool) -> str:
    whose = "as in this history" if known else "one a day"
    outages = f"{_counted(tally.outages_told, 'outage')} would have paged in {span(tally.weeks * WEEK)}: {tally.outages_a_week:.2g} a week"
    return (f"Apart from that, {outages}. "
            f"Together about {tally.pages_a_week:.2g} pages a week, with {tally.updates_a_week:.2g} updates a week ({whose}).")


def skipped_words(placed: Sequence[Placed]) -> str:
    """Why updates could not be placed, with how often."""
    total: Counter[str] = sum((Counter(found.skipped) for found in placed), Counter())
    return _reasons(total)


def _reasons(skipped: Mapping[str, int]) -> str:
    return ", ".join(f"{_SKIPPED[why]} ({'once' if count == 1 else f'{count} times'})" for why, count in skipped.items() if count)


def _small_print(source: Source, tally: Tally, skipped: Mapping[str, int]) -> Iterator[str]:
    settings = source.shops[0].plan.settings
    yield (f"{tally.replayed} updates on {source.name}, back to back: open for {span(ROLLOUT)}, then {span(settings.warm_up)} of warm-up and at most "
           f"{span(source.shops[0].plan.observe / source.shops[0].plan.stretch)} of observation; settings: {source.settings}")
    yield f"probes: {_some(_names(source))}; harm was put into: {_some(_harmed(source))}, all at once, from the start of the update"
    yield f"past of each update: at least {tally.shortest_past} runs of every probe that must pass"
    if any(skipped.values()):
        yield "no update was placed where " + _reasons(skipped)
    if source.left_out:
        yield "left out, too short: " + _some([f"{what} ({why})" for what, why in source.left_out])
    yield from source.notes


def _names(source: Source) -> list[str]:
    return [label(shop.name, history.subject.name) for shop in source.shops for history in shop.histories]


def _harmed(source: Source) -> list[str]:
    return [label(shop.name, history.subject.name) for shop in source.shops for history in required(shop.histories)]


def _some(names: Sequence[str]) -> str:
    rest = len(names) - MOST_SHOWN
    return ", ".join(names[:MOST_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


# Numbers


def _harms(tally: Tally) -> Table:
    table = Table("what an update does", "found", "95 %", "after runs", "after", "paged as an outage", "passes", box=None, pad_edge=False)
    for found in tally.harms:
        lower, upper = (100 * bound for bound in found.found.bounds)
        table.add_row(found.words, _percent(found.found), f"{lower:.0f} to {upper:.0f} %" if found.found.of else "", *_took(found.took),
                      _percent(found.down) + (f", after {span(found.down_seconds)}" if found.down_seconds is not None else ""), str(found.passed))
    return table


def _took(took: Took) -> tuple[str, str]:
    return ("", "") if took.runs is None or took.seconds is None else (f"{took.runs:.0f}", span(took.seconds))


def _percent(share: Share) -> str:
    return "" if share.share is None else f"{100 * share.share:.0f} %"
