"""Did a daemon that was killed again and again keep its promises? Pure: from a record to all that is wrong with it.

What must hold, for the outages that it committed:
lost          every beginning and every worsening was accepted by every receiver, or something worse or its end took its place; every end
              was accepted by those that had accepted a beginning, and by a webhook also when the beginning came too late to be sent
claimed       what the outbox calls done was accepted
twice         PagerDuty opened one alert per incident and escalation; no message has two identifiers; one incident at a time has a cause
zombie        nothing is triggered after its end, nothing stays open after it
repeated      the same message comes again only after a kill, once for each at most
order         no beginning after the end, no lesser escalation after a greater
uncommitted   nobody hears of what the database does not know
reopened      an unbroken outage is one outage, however often the daemon was killed during it
forgotten     every outage that a probe went into belongs to an incident
slow          the first probe runs within 3 s of the start, those not counted that the machine withheld from the daemon
"""

import hashlib
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from campaign_record import Event, Record, Row

PAGER, HOOK = "pager", "phone"
FIRST_PROBE = 3.0          # s
LATE = 1.0                 # s for which what was sent may be under way
EDGE = 0.6                 # s by which a run may be older than what it says: its time-out, and a bit


@dataclass(frozen=True, slots=True)
class Wrong:
    """One promise that was not kept."""

    promise: str
    what: str


def check(record: Record) -> list[Wrong]:
    """All that is wrong; nothing, if all is well."""
    rules: tuple[Callable[[Record], Iterator[Wrong]], ...] = (
        _lost, _ends, _claimed, _alerts, _messages, _causes, _order, _repeated, _outages, _lives)
    return [wrong for rule in rules for wrong in rule(record)]


def key(record: Record, incident: str, escalation: int) -> str:
    """What PagerDuty knows an escalation of an incident by, as docs/alerts.md says."""
    return hashlib.sha256("\0".join((record.install, record.shop, incident, str(escalation))).encode()).hexdigest()


def accepted(record: Record, row: Row) -> bool:
    """Has its receiver taken the message of this row?"""
    if row.receiver == HOOK:
        return any(receipt.id == row.id for receipt in record.hook)
    action = {"firing": "trigger", "resolved": "resolve", "acknowledged": "acknowledge"}[row.kind]
    keys = _keys(record, row)
    return any(event.action == action and event.key in keys for event in record.pager)


def first_probes(record: Record) -> list[float]:
    """Seconds from the start to the first visit of the shop, for every life that came so far."""
    return sorted(record.visits[number] - life.begun for number, life in enumerate(record.lives) if number in record.visits)


def duplicates(record: Record) -> dict[str, list[int]]:
    """For each receiver: how many messages came once more after each kill that made some do so."""
    return {name: list(_blamed(record, times).values()) for name, times in (("pager", _triggers(record)), ("phone", _receipts(record)))}


# Told

def _outages_told(record: Record) -> dict[str, Mapping[str, Any]]:
    return {id_: facts for id_, facts in record.incidents.items() if facts["kind"] == "outage" and facts["told"]}


def _lost(record: Record) -> Iterator[Wrong]:
    rows = {(row.receiver, row.incident, row.escalation): row for row in record.outbox if row.kind == "firing"}
    for id_, facts in _outages_told(record).items():
        steps = [step for step in record.steps if step.incident == id_ and step.what in {"firing", "escalated"}]
        if len(steps) != facts["escalation"] + 1:
            yield Wrong("lost", f"{id_}: {len(steps)} steps to escalation {facts['escalation']}")
        for receiver in (PAGER, HOOK):
            for escalation in range(facts["escalation"] + 1):
                row = rows.get((receiver, id_, escalation))
                if row is None:
                    yield Wrong("lost", f"{id_}: no message for escalation {escalation} to {receiver}")
                elif not accepted(record, row) and not _replaced(record, row, facts):
                    yield Wrong("lost", f"{id_}: {receiver} never took escalation {escalation} ({row.state}, {row.attempts} attempts)")


def _replaced(record: Record, row: Row, facts: Mapping[str, Any]) -> bool:
    """Was it taken back by the rule: something worse took its place, or its end, which is then told where the rule says so?"""
    if row.state != "superseded":
        return False
    if row.escalation < facts["escalation"]:
        return True
    if facts["resolved"] is None:
        return False
    mute = row.receiver == PAGER and not any(r.attempts for r in record.outbox if (r.receiver, r.incident) == (row.receiver, row.incident))
    return mute or _end_taken(record, row.receiver, row.incident)


def _end_taken(record: Record, receiver: str, incident: str) -> bool:
    ends = [r for r in record.outbox if (r.receiver, r.incident, r.kind) == (receiver, incident, "resolved")]
    return len(ends) == 1 and accepted(record, ends[0])


def _ends(record: Record) -> Iterator[Wrong]:
    told = {(row.receiver, row.incident) for row in record.outbox if row.kind == "firing" and accepted(record, row)}
    for receiver, incident in sorted(told):
        facts = record.incidents.get(incident)
        if facts and facts["resolved"] is not None and not _end_taken(record, receiver, incident):
            yield Wrong("lost", f"{incident}: {receiver} was never told of the end")
    for row in record.outbox:
        if row.state not in {"done", "superseded", "dead"} and record.incidents.get(row.incident, {}).get("resolved") is not None:
            yield Wrong("lost", f"{row.incident}: {row.kind} to {row.receiver} is still {row.state}")


def _claimed(record: Record) -> Iterator[Wrong]:
    for row in record.outbox:
        if row.state == "done" and not accepted(record, row):
            yield Wrong("claimed", f"{row.incident}: {row.kind} {row.escalation} to {row.receiver}")


# PagerDuty

def _keys(record: Record, row: Row) -> set[str]:
    """What its message may be about: an end is the end of all escalations."""
    escalations = range(row.escalation + 1) if row.kind == "resolved" else (row.escalation,)
    return {key(record, row.incident, escalation) for escalation in escalations}


def _alerts(record: Record) -> Iterator[Wrong]:
    known = {key(record, id_, escalation): (id_, escalation)
             for id_, facts in record.incidents.items() for escalation in range(facts["escalation"] + 1)}
    created = {(row.incident, row.escalation): row.created for row in record.outbox if row.receiver == PAGER and row.kind == "firing"}
    stories: defaultdict[str, list[Event]] = defaultdict(list)
    for event in record.pager:
        stories[event.key].append(event)
    for name, events in stories.items():
        if name not in known:
            yield Wrong("uncommitted", f"pager was told of {name[:12]}")
            continue
        yield from _alert(events, *known[name], record.incidents[known[name][0]])
        if events[0].at < created.get(known[name], events[0].at) - LATE:
            yield Wrong("uncommitted", f"{known[name][0]}: pager was told before it was committed")


def _alert(events: list[Event], incident: str, escalation: int, facts: Mapping[str, Any]) -> Iterator[Wrong]:
    """One alert from its events in order, as PagerDuty takes them."""
    opened, state = 0, ""
    for event in events:
        if event.action == "trigger" and state != "open":
            if state:
                yield Wrong("zombie", f"{incident}: escalation {escalation} was triggered after its end")
            opened, state = opened + 1, "open"
        elif event.action == "resolve" and state:
            state = "over"
    if opened > 1:
        yield Wrong("twice", f"{incident}: escalation {escalation} is {opened} alerts")
    if state == "open" and (facts["resolved"] is not None or escalation < facts["escalation"]):
        yield Wrong("zombie", f"{incident}: escalation {escalation} is still open")


# The webhook

def _messages(record: Record) -> Iterator[Wrong]:
    rows = {row.id: row for row in record.outbox if row.receiver == HOOK}
    ids: defaultdict[tuple[str, int, str], set[str]] = defaultdict(set)
    for receipt in record.hook:
        row = rows.get(receipt.id)
        if row is None or row.incident not in record.incidents:
            yield Wrong("uncommitted", f"phone was told of {receipt.incident} by {receipt.id}")
            continue
        if (receipt.incident, receipt.type) != (row.incident, f"incident.{row.kind}"):
            yield Wrong("claimed", f"{receipt.id} says {receipt.type} of {receipt.incident}, and is {row.kind} of {row.incident}")
        if receipt.at < row.created - LATE:
            yield Wrong("uncommitted", f"{row.incident}: phone was told before it was committed")
        ids[row.incident, row.escalation, row.kind].add(receipt.id)
    for (incident, escalation, kind), names in ids.items():
        if len(names) > 1:
            yield Wrong("twice", f"{incident}: {kind} {escalation} has {len(names)} identifiers")


def _causes(record: Record) -> Iterator[Wrong]:
    """One story at a time has a cause."""
    newest: dict[str, Mapping[str, Any]] = {}
    for facts in sorted(record.incidents.values(), key=lambda facts: facts["opened"]):
        before = newest.get(facts["cause"])
        if before and (before["resolved"] is None or before["resolved"] > facts["opened"]):
            yield Wrong("twice", f"{facts['id']} and {before['id']} are both open for {facts['cause']}")
        newest[facts["cause"]] = facts


def _order(record: Record) -> Iterator[Wrong]:
    rows = {row.id: row for row in record.outbox}
    newest: dict[str, Row] = {}
    for receipt in sorted(record.hook, key=lambda receipt: receipt.at):
        row = rows.get(receipt.id)
        if row is None:
            continue
        before = newest.get(row.incident)
        if before and row.seq < before.seq:
            yield Wrong("order", f"{row.incident}: {row.kind} {row.escalation} came after {before.kind} {before.escalation}")
        newest[row.incident] = max(row, before or row, key=lambda row: row.seq)


# Once more

def _triggers(record: Record) -> dict[str, list[float]]:
    times = defaultdict(list)
    for event in record.pager:
        if event.action == "trigger":
            times[event.key].append(event.at)
    return times


def _receipts(record: Record) -> dict[str, list[float]]:
    times = defaultdict(list)
    for receipt in record.hook:
        times[receipt.id].append(receipt.at)
    return times


def _repeated(record: Record) -> Iterator[Wrong]:
    kills = sorted(life.ended for life in record.lives)
    for receiver, messages in ((PAGER, _triggers(record)), (HOOK, _receipts(record))):
        for name, times in messages.items():
            between = bisect_left(kills, max(times)) - bisect_left(kills, min(times) - LATE)
            if len(times) - 1 > between:
                yield Wrong("repeated", f"{receiver} got {name[:26]} {len(times)} times around {between} kills")


def _blamed(record: Record, messages: Mapping[str, list[float]]) -> dict[float, int]:
    """By kill: how many messages came once more after it."""
    kills, blamed = sorted(life.ended for life in record.lives), defaultdict(int)
    for times in messages.values():
        for at in sorted(times)[1:]:
            blamed[kills[max(bisect_left(kills, at) - 1, 0)]] += 1
    return blamed


# Outages and lives

def _outages(record: Record) -> Iterator[Wrong]:
    downs: defaultdict[str, list[float]] = defaultdict(list)
    state: dict[str, str] = {}
    for flip in record.flips:
        if flip.new not in {"up", "down"}:
            continue
        if state.get(flip.probe, "up") == flip.new:
            yield Wrong("reopened", f"{flip.probe} went {flip.new} twice, again at {flip.at:.3f}")
        state[flip.probe] = flip.new
        if flip.new == "down":
            downs[flip.probe].append(flip.since)
            if not any(_has(facts, flip.probe, flip.at) for facts in record.incidents.values()):
                yield Wrong("forgotten", f"{flip.probe} went down at {flip.at:.3f}, and no incident knows")
        else:
            yield from (Wrong("reopened", f"{flip.probe} was said to be up at {flip.at:.3f}, while it failed")
                        for begins, ends in record.spells.get(flip.probe, ()) if begins + EDGE + _withheld(record, flip.at) < flip.at < ends)
    for probe, spells in record.spells.items():
        for begins, ends in spells:
            times = sum(begins - EDGE <= since <= ends for since in downs[probe])
            if times > 1:
                yield Wrong("reopened", f"{probe} went down {times} times in one outage, from {begins:.3f} to {ends:.3f}")


def _withheld(record: Record, at: float) -> float:
    """From the daemon that lived at that time."""
    return max((life.withheld for life in record.lives if life.begun <= at <= life.ended + LATE), default=0.0)


def _has(facts: Mapping[str, Any], probe: str, at: float) -> bool:
    during = facts["opened"] <= at + 1e-3 and (facts["resolved"] is None or facts["resolved"] >= at)
    return during and any(member["probe"] == probe for member in facts["members"])


def _lives(record: Record) -> Iterator[Wrong]:
    if record.integrity != "ok":
        yield Wrong("lost", f"the database is damaged: {record.integrity}")
    for number, life in enumerate(record.lives):
        first = record.visits.get(number)
        if (life.ended if first is None else first) - life.begun - life.withheld > FIRST_PROBE:
            yield Wrong("slow", f"life {number} did not visit the shop within {FIRST_PROBE} s")
        if life.code not in {-9, 0}:
            yield Wrong("lost", f"life {number} ended by itself: {life.code}")
