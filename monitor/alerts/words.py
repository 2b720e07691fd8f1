"""The words of a page: sentences that the owner of a shop understands, with the numbers. Pure; belongs to page.py."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from monitor.clock import clock_time, span
from monitor.incidents import GONE, OURS, PART_OF, STORM, Incident, Member
from monitor.parts import changed_part, level, plain, worst_first
from monitor.updates import Changed, Status, Update
from probes.artifacts import mentioned, without
from probes.reasons import REASONS
from probes.scrub import scrub

MOST_EVIDENCE = 6
MOST_ARTIFACTS = 5
MOST_NAMES = 20
_STEP = "step "  # of a checkout: how its signals of steps that fail begin
SOON = 3600.0  # an outage this soon after an update started is told as "after", a later one as "may belong to"

Means = Mapping[str, str]


def line(text: str, limit: int = 300, *, foreign: bool = False) -> str:
    """One line without secrets, cut to `limit` characters. Of `foreign` text addresses of people's machines go too.

    Our own words keep them: the scrubber cannot tell the end of "since 02:14:" from an IPv6 address.
    """
    return scrub(text, limit=limit, ips=foreign)


def moment(at: float, now: float) -> str:
    """The time of day, with the date when it is not within the last 20 hours."""
    if abs(now - at) < 20 * 3600:
        return clock_time(at)
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M")


def sentence(incident: Incident, means: Means, update: Update | None, now: float, *, receiver: str = "", missed: bool = False) -> str:
    """What is wrong, or what was, in one sentence without a full stop."""
    if incident.kind == "drill":
        return f"This is a test of the receiver {line(receiver, 64)}: nothing is wrong with the shop"
    if incident.resolved is not None:
        return line(_over(incident, now, missed=missed), 500)
    if incident.kind == "regression":
        return line(_regression(incident, means, now), 500)
    if not incident.members:
        return line(incident.said.rstrip(". ") or incident.cause, 500)
    if incident.kind == "monitor_fault":
        reason = _reason(incident.members)
        return line(
            f"Tillwatch cannot measure {_names(incident.members)} since {moment(incident.began, now)}"
            f"{f' ({reason})' if reason else ''}: this says nothing about the shop itself",
            500,
        )
    if incident.cause == STORM and len(_distinct(_down(incident.members))) > 1:
        return line(_storm(incident, means, now), 500)
    return line(_outage(incident, means, update, now), 500)


def notice(kind: str) -> bool:
    """Is it news, and no alarm?"""
    return kind in {"update", "announcement"}


def why(incident: Incident, now: float) -> str:
    """By which rule this was sent."""
    if incident.kind == "drill":
        return "somebody asked for a test"
    if notice(incident.kind):
        return f"this receiver wants to hear of every {incident.kind}"
    if incident.resolved is not None:
        return f"the end of what was sent is always sent{f' ({line(incident.resolution, 100)})' if incident.resolution else ''}"
    worse = "it is worse than what was told before: " if incident.escalation else ""
    if incident.kind == "regression":
        return worse + _evidence_reached(incident.ruling)
    worst = next(iter(_worst_first(incident.members)), None)
    if worst is None:
        return worse + ("what is wrong with Tillwatch itself, somebody has to mend" if incident.said else "it was asked for by name")
    lasted = span(max(0.0, (incident.opened if worst.since <= incident.opened else now) - worst.since))
    if incident.kind == "monitor_fault":
        return f"{worse}{worst.failed} of {worst.of} runs could not be measured, for {lasted}"
    return f"{worse}{worst.failed} of {worst.of} runs failed and the failing lasted {lasted}"


def why_again(incident: Incident, now: float) -> str:
    """Why it is said once more."""
    return f"still wrong after {span(max(0.0, now - incident.began))}, and nobody acknowledged it"


def in_place_of(receiver: str, since: float | None, now: float) -> str:
    """Why somebody is told who would not be told otherwise."""
    return f"instead of {line(receiver, 64)}, which could not be reached{f' since {moment(since, now)}' if since is not None else ''}"


def changed(incident: Incident, update: Update | None) -> str:
    """The update: its version, the parts that it changes, its phase."""
    if not incident.update:
        return ""
    if update is None:
        return line(incident.version or incident.update, 64)
    parts = ", ".join(f"{c.name} {c.version}".strip() for c in update.changes[:MOST_NAMES])
    phase = f", phase {update.phase}" if update.live else f", {update.status.value}"
    return line(f"{update.version}{f' ({parts})' if parts else ''}{phase}", 400)


def culprit(incident: Incident, update: Update | None) -> str:
    """How near the update is to it, without saying more than is known."""
    if not incident.update or incident.kind == "monitor_fault" or notice(incident.kind):
        return ""
    name = line(f"update {incident.version or incident.update}", 80)
    if incident.kind == "regression":
        return f"{name}{_parts(update.changes) if update else ''}: judged against the time before it{_lies_in(incident.ruling, update)}"
    if update is None:
        return f"may belong to {name}"
    after = incident.began - update.started
    if after < 0:
        return f"began {span(-after)} before {name} started, so probably something else"
    return f"started {span(after)} after {name}" if after <= SOON else f"may belong to {name} of {span(after)} ago"


def evidence(incident: Incident) -> tuple[str, ...]:
    """The newest things that were seen, guilty signals first; beside the worst of them which errors are new, for that may be why."""
    signals = _signals(incident.ruling) if incident.kind == "regression" else []
    seen = [f"{_name(m)}: {line(without(m.evidence), 300, foreign=True) or REASONS.get(m.reason, m.reason)}" for m in _newest(incident)]
    return tuple(line(text, 300) for text in (*signals, *seen)[:MOST_EVIDENCE])


def artifacts(incident: Incident) -> tuple[tuple[str, str], ...]:
    """What it is and what it is called, of the newest evidence that was kept: ("screenshot", "NAME.png"), which comes first."""
    found = next(filter(None, (mentioned(m.evidence) for m in _newest(incident))), [])
    return tuple(sorted(found[:MOST_ARTIFACTS], key=lambda one: one[0] != "screenshot"))


def artifact(what: str) -> str:
    """A kind of evidence as a heading."""
    return {"details": "What the browser saw", "page": "Page as text"}.get(what, what.capitalize())


def _newest(incident: Incident) -> list[Member]:
    """What still fails, the newest first."""
    return sorted((m for m in incident.members if m.recovered is None), key=lambda m: -m.since)


def still_works(works: Sequence[str], incident: Incident) -> tuple[str, ...]:
    """Names that are known to be up, never one of those that are down."""
    down = {m.probe for m in incident.members if m.recovered is None}
    return tuple(line(name, 64) for name in works if name not in down)[:MOST_NAMES]


def merged(incident: Incident) -> bool:
    """Did it end only because it goes on as part of another incident?"""
    return incident.resolution.startswith(PART_OF)


def first_step(incident: Incident, url: str, update: Update | None) -> tuple[str, str]:
    """What to do first, and what that costs. Tillwatch itself does none of it."""
    # A closed update cannot be rolled back any more here: the command would be refused, in the middle of the night.
    taken = update is not None and update.status in {Status.OPEN, Status.OBSERVING}
    say = f", then say so: `tillwatch update rollback {incident.update}`" if taken else ""
    name = line(incident.version or incident.update, 64)
    if incident.kind == "drill":
        return "nothing", ""
    if incident.cause.startswith(OURS):
        return _mend(incident.cause), "nothing"
    if incident.kind == "monitor_fault":
        first = _measure_again(_down(incident.members))
        return first, "nothing; until it is mended nobody watches these probes"
    if incident.kind == "regression":
        return (
            f"roll update {name} back in the shop{say}",
            "what the update brought is gone until it is mended; if it changed the database, orders since then may be lost with it",
        )
    if incident.kind == "outage" and incident.update:
        look = f"look at {line(url, 200)} and at what update {name} changed; if it was the update, roll it back in the shop"
        return (
            f"{look}{say}",
            "looking costs nothing; a rollback takes back what the update brought",
        )
    if incident.kind == "outage":
        return f"open {line(url, 200)} from another network, then look at the web server and its error log", "nothing"
    return "", ""


def _regression(incident: Incident, means: Means, now: float) -> str:
    """What it means to customers, where that is known of the worst signal; else as the judge put it. With "since" either way."""
    since = f"since {moment(incident.began, now)}"
    guilty = _guilty(incident.ruling)
    worst = guilty[0] if guilty else None
    meaning = means.get(worst["probe"], "") if worst and worst["failed_after"] is not None else ""
    if worst and meaning:
        others = _listed([n for n in dict.fromkeys(f"*{s['probe']}*" for s in guilty) if n != f"*{worst['probe']}*"])
        numbers = _failed(worst, guilty, f" since {line(_update_name(incident, start=False), 80)}")
        return f"{_capital(meaning)} {since}: {numbers}{f'; also worse: {others}' if others else ''}"
    told = str(incident.ruling.get("sentence", "")).rstrip(". ")
    what, colon, numbers = told.partition(": ")
    return f"{what} {since}{colon}{numbers}" if told else f"{_update_name(incident)} made the shop worse, seen {since}"


def _capital(meaning: str) -> str:
    """As the start of a sentence that goes on, however it was written in the configuration."""
    meaning = meaning.strip().rstrip(".")
    return meaning[:1].upper() + meaning[1:]


def _outage(incident: Incident, means: Means, update: Update | None, now: float) -> str:
    down = _down(incident.members) or _worst_first(incident.members)
    worst = down[0]
    since = moment(incident.began, now)
    counted = f"failed {worst.failed} of {worst.of}"
    before = _before(update, worst)
    if before:
        counted += f", before the update {before[0]} of {before[1]}"
    told = _capital(means.get(worst.probe, "")) or _meaning(down)
    alone = len(_distinct(down)) == 1 and worst.probe not in means
    reason = _reason([worst])
    return f"{told} since {since}: {'it' if alone else _name(worst)} {counted}{f'; {reason}' if reason else ''}"


def _storm(incident: Incident, means: Means, now: float) -> str:
    """So much at once that one story each would only hide the whole."""
    down = _down(incident.members)
    worst = down[0]
    meant = means.get(worst.probe, "").strip().rstrip(".")
    first = f"first of all {_name(worst)}{f' ({meant})' if meant else ''}, then {_names([m for m in down if m.probe != worst.probe])}"
    return f"{len(_distinct(down))} probes fail for different reasons since {moment(incident.began, now)}: {first}"


def _measure_again(down: Sequence[Member]) -> str:
    look = "mend the flow, `tillwatch flow check` says where" if down and down[0].reason == "flow" else "look at the log of Tillwatch on its host"
    return f"{look}, and run `tillwatch probe {line(down[0].probe, 64) if down else 'NAME'}` there"


def _mend(cause: str) -> str:
    """What to do about a fault that Tillwatch finds in itself."""
    receiver = cause.removeprefix(f"{OURS}receiver:")
    if receiver != cause:
        return f"mend its settings or its network, then try it: `tillwatch test-alert {line(receiver, 64)}`"
    disk = cause.removeprefix(OURS) in {"store", "disk", "repaired"}
    return f"look at the log of Tillwatch on its host{', and at the disk there' if disk else ''}"


def _meaning(down: Sequence[Member]) -> str:
    if any(m.critical for m in down):
        return f"Customers cannot use {_names(down)}"
    return f"{_names(down)} {'has' if len(_distinct(down)) == 1 else 'have'} been failing"


def _over(incident: Incident, now: float, *, missed: bool) -> str:
    ended = incident.resolved or now
    lasted = f"lasted {span(ended - incident.began)}"
    times = f"from {moment(incident.began, now)} to {moment(ended, now)}"
    if merged(incident):
        are = "is" if len(_distinct(incident.members)) < 2 else "are"
        story = f"{are} {incident.resolution} ({_update_name(incident, start=False)})"
        return f"Not over, but told together from now on: {_names(incident.members)} {story}"
    if incident.said and not incident.members:
        return f"Over: what was told as “{line(incident.said, 300).rstrip('. ')}” went on {times}, {lasted}"
    if incident.kind == "monitor_fault":
        return f"Over: Tillwatch can measure {_names(incident.members)} again, which it could not {times}, {lasted}"
    if incident.resolution == GONE:
        return f"Not watched any more: {_names(incident.members)} failed since {moment(incident.began, now)}, and is not in the configuration now"
    if incident.kind == "regression":
        return f"Over: the shop is as it was before {_update_name(incident, start=False)}, which made it worse {times}, {lasted}"
    if missed:
        was = "was" if len(_distinct(incident.members)) < 2 else "were"
        return (
            f"Over, and you could not be told before: {_names(incident.members)} {was} down "
            f"{moment(incident.began, now)}–{moment(ended, now)}, {lasted}"
        )
    return f"Over: {_names(incident.members) or line(incident.cause, 200)} failed {times}, {lasted}"


def _update_name(incident: Incident, *, start: bool = True) -> str:
    return f"{'Update' if start else 'update'} {incident.version or incident.update}"


def _parts(changes: Sequence[Changed]) -> str:
    names = ", ".join(f"{c.name} {c.version}".strip() for c in changes[:5])
    return f" ({line(f'it changes {names}', 200)})" if names else ""


def _before(update: Update | None, member: Member) -> tuple[int, int] | None:
    """How many of its runs had failed before the update, as the judge has it."""
    target = member.probe, member.device, member.cohort
    for s in update.ruling.get("signals", ()) if update else ():
        if (s["probe"], s["device"], s["cohort"]) == target and s["failed_before"] is not None and s["n_before"]:
            return s["failed_before"], s["n_before"]
    return None


def _guilty(ruling: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The signals that tell against the update, failures and critical probes first."""
    found = [s for s in ruling.get("signals", ()) if s["guilty"]]
    return sorted(found, key=lambda s: (s["failed_after"] is None, not s["critical"], (s["threshold"] or 0.0) - (s["evidence"] or 0.0)))


def _signals(ruling: Mapping[str, Any]) -> list[str]:
    guilty = _guilty(ruling)
    steps = [step for whole in guilty for step in _steps(whole, guilty)]
    told = [_signal(s, guilty) for s in guilty if not s.get("news") and s not in steps]
    return [*told[:1], *_logged(_news(ruling)), *told[1:]]


def _news(ruling: Mapping[str, Any]) -> dict[str, float]:
    """Errors that were never logged before the update, with their events, those first that tell most; alarming or not."""
    found = {str(name): float(events) for s in ruling.get("signals", ()) if not s.get("control") for name, events in s.get("news", ())}
    return {name: found[name] for name in worst_first(found)}


def _logged(news: Mapping[str, float]) -> Iterable[str]:
    """The first of them; how many more there are is told on the pages."""
    for name, events in list(news.items())[:1]:
        yield f"new since the update: {line(plain(name), 200, foreign=True)}, {events:.0f} time{'' if events == 1 else 's'}"


def _lies_in(ruling: Mapping[str, Any], update: Update | None) -> str:
    """That a new error lies in a part that the update changed; "" when none is known to."""
    for name in _news(ruling) if update else ():
        if part := changed_part(name, update.parts if update else ()):
            what = {"warning": "warning", "critical": "critical error"}.get(level(name), "error")
            return f"; the new {what} lies in {line(part, 80)}, which this update changed"
    return ""


def _signal(signal: Mapping[str, Any], guilty: Sequence[Mapping[str, Any]]) -> str:
    name = _target(signal["probe"], signal["device"])
    if signal["failed_after"] is not None:
        return _failed(signal, guilty)
    if signal.get("after_text"):
        return f"{name} {signal['signal']}: {line(signal['after_text'], 200, foreign=True)}, before {signal['before_text']}"
    bounds = ""
    if signal["ratio_lower"] is not None and signal["ratio_upper"] is not None:
        bounds = f", {signal['ratio_lower']:.2g} to {signal['ratio_upper']:.2g} times as long"
    return f"{name} {signal['signal']} {_seconds(signal['after'])}, before {_seconds(signal['before'])}{bounds}"


def _failed(signal: Mapping[str, Any], guilty: Sequence[Mapping[str, Any]], since: str = "") -> str:
    name = _target(signal["probe"], signal["device"])
    at = _listed([line(step["signal"].removeprefix(_STEP), 64) for step in _steps(signal, guilty) or [signal] if step["signal"].startswith(_STEP)])
    counted = f"{name} failed {signal['failed_after']} of {signal['n_after']}{since}, before {signal['failed_before']} of {signal['n_before']}"
    return f"{counted}, at {at}" if at else counted


def _steps(whole: Mapping[str, Any], guilty: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """At which of its steps the runs fail, for which the run as a whole speaks."""
    target = whole["probe"], whole["device"], whole["cohort"]
    return [s for s in guilty if whole["signal"] == "success" and s["signal"].startswith(_STEP) and s["failed_after"] is not None
            and (s["probe"], s["device"], s["cohort"]) == target]


def _seconds(value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value * 1000:.3g} ms" if value < 0.9995 else f"{value:.3g} s"


def _evidence_reached(ruling: Mapping[str, Any]) -> str:
    worst = next(iter(_guilty(ruling)), None)
    if worst is None or worst["evidence"] is None or worst["threshold"] is None:
        return "the verdict on the update is regression"
    name = line(f"*{worst['probe']}* {worst['signal']}", 200)
    return f"{name}: evidence 10^{worst['evidence']:.1f} against threshold 10^{worst['threshold']:.1f}"


def _down(members: Iterable[Member]) -> list[Member]:
    """What still fails, the worst first."""
    return [m for m in _worst_first(members) if m.recovered is None]


def _worst_first(members: Iterable[Member]) -> list[Member]:
    return sorted(members, key=lambda m: (m.recovered is not None, not m.critical, m.urgency != "page", m.since))


def _reason(members: Sequence[Member]) -> str:
    """The reason in words, without the explanation behind its colon."""
    worst = next(iter(_worst_first(members)), None)
    return REASONS.get(worst.reason, worst.reason.replace("_", " ")).partition(":")[0] if worst else ""


def _name(member: Member) -> str:
    return _target(member.probe, member.device)


def _target(probe: str, device: str) -> str:
    return f"*{probe}* ({device})" if device else f"*{probe}*"


def _distinct(members: Iterable[Member]) -> list[str]:
    return list(dict.fromkeys(f"*{m.probe}*" for m in members))


def _names(members: Sequence[Member]) -> str:
    return _listed(_distinct(members))


def _listed(names: Sequence[str]) -> str:
    if len(names) > 3:
        return f"{', '.join(names[:2])} and {len(names) - 2} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
