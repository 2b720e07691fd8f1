"""The post-mortem of an update, rendered from stored facts: one self-contained HTML file, or Markdown."""

import re
import sqlite3
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from monitor.alerts import outbox
from monitor.clock import span
from monitor.incidents import Incident
from monitor.signal_words import change, evidence, mark, not_judged, ruling_word, sides
from monitor.store import records, signatures
from monitor.updates import Update
from probes import artifacts

if TYPE_CHECKING:
    import jinja2

VERDICTS = {
    "watching": "No verdict yet",
    "pass": "No harm seen",
    "regression": "This update made the shop worse",
    "inconclusive": "Not enough evidence for a verdict",
}


MOST_NEWS = 50             # new errors that are listed


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a report rests on."""

    update: Update
    acts: list[dict[str, Any]]
    incidents: list[tuple[Incident, list[dict[str, Any]], list[dict[str, Any]]]]     # with its steps and its notifications
    flips: list[dict[str, Any]]
    baselines: dict[tuple[str, str, str], dict[str, Any]]
    news: list[dict[str, Any]] = field(default_factory=list)      # errors that were first logged with it


def gather(connection: sqlite3.Connection, update: Update, until: float | None) -> Facts:
    """Read what is stored of the update: acts, incidents with their notifications, flips from its start to its end, and errors that
    were never logged before, until what is new does not belong to it any more (Unix s; None: for as long as there is no newer update).
    """
    end = update.closed or 1e12
    found = records.incidents(connection, update=update.id)
    return Facts(
        update=update, acts=records.acts(connection, update.id), flips=records.flips(connection, update.started, end),
        incidents=[(i, records.incident_steps(connection, i.id), outbox.history(connection, i.id)) for i in reversed(found)],
        baselines=records.baselines(connection, update.id), news=signatures.told_of(connection, update, until))


def html(facts: Facts, shop: str, now: float, base: str = "") -> str:
    """One file that needs nothing else. `base` is the address of the operator pages, which show the evidence that was kept."""
    return _environment().get_template("report.html").render(_view(facts, shop, now), base=base)


def markdown(facts: Facts, shop: str, now: float, base: str = "") -> str:
    """The same for a wiki or a ticket."""
    return _environment().get_template("report.md").render(_view(facts, shop, now), base=base)


def _view(facts: Facts, shop: str, now: float) -> dict[str, Any]:
    update = facts.update
    ruling = update.ruling
    signals = [dict(s) | {"sides": sides(s), "change": change(s), "against": evidence(s), "word": ruling_word(s)}
               for s in ruling.get("signals", ()) if mark(s) != "not judged"]
    return {
        "shop": shop, "update": asdict(update), "headline": VERDICTS[update.verdict], "written": now, "summary": _summary(update),
        "sentence": ruling.get("sentence", ""), "rule": ruling.get("reason", ""),
        "missing": () if update.regressed else ruling.get("missing", ()), "not_judged": not_judged(ruling.get("signals", ())),
        "signals": sorted(signals, key=lambda s: (not s["guilty"], not s["critical"])),
        "timeline": _timeline(facts), "incidents": facts.incidents, "news": facts.news[:MOST_NEWS], "more_news": facts.news[MOST_NEWS:],
    }


def _summary(update: Update) -> list[tuple[str, str]]:
    """The times that a post-mortem asks for first."""
    rows = []
    if update.regressed and update.verdict_at:
        rows.append(("Found after", span(update.verdict_at - update.started)))
    if update.rolled_back:
        rows.append(("Rolled back after", span(update.rolled_back - update.started)))
    if update.recovered:
        rows.append(("Back to normal after", span(update.recovered - update.started)))
    return rows


def _timeline(facts: Facts) -> list[dict[str, Any]]:
    """Everything that happened, in order: acts, flips, incidents, notifications."""
    rows = [{"at": act["at"], "what": f"{act['act']} by {act['by']}", "detail": act["detail"]} for act in facts.acts]
    rows += [{"at": f["at"], "what": f"{f['probe']} is {f['new']}", "detail": f["evidence"] or f["reason"]} for f in facts.flips]
    for incident, steps, sent in facts.incidents:
        rows += [{"at": s["at"], "what": f"incident {incident.kind} {s['what']}", "detail": s["detail"]} for s in steps]
        told = (n for n in sent if n["state"] == "done")
        rows += [{"at": n["done"], "what": f"{n['receiver']} has the {n['kind']} message", "detail": ""} for n in told]
    return sorted(rows, key=lambda row: row["at"])


@cache
def _environment() -> "jinja2.Environment":
    """HTML is escaped by autoescape, Markdown by the filter `plain`."""
    import jinja2  # 4 MiB that a daemon without a report need not hold
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("monitor"), autoescape=jinja2.select_autoescape(("html",)), trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined)
    environment.filters |= {"moment": _moment, "span": span, "plain": _plain, "linked": linked, "plain_linked": _plain_linked}
    return environment


def _moment(at: float | None) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z") if at else "-"


def _plain(text: object) -> str:
    """Text from outside for Markdown: nothing in it can become markup or a second table cell."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~@&-])", r"\\\1", " ".join(str(text).split()))


def linked(text: str, base: str) -> Any:
    """Escaped HTML, with links to what it names of kept evidence. A name has nothing in it that escaping would change."""
    import markupsafe
    escaped = str(markupsafe.escape(text))
    return markupsafe.Markup(artifacts.linked(  # noqa: S704 - escaped just before
        escaped, lambda what, name: f'<a href="{markupsafe.escape(base)}/artifacts/{name}">{what}</a>'))


def _plain_linked(text: str, base: str) -> str:
    """The same in Markdown."""
    kept = artifacts.mentioned(text) if base else []
    return " ".join((_plain(artifacts.without(text) if kept else text), *(f"[{what}](<{base}/artifacts/{name}>)" for what, name in kept)))
