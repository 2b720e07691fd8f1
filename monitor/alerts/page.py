"""What a page says, in words and as data, from stored facts and the moment it is sent. Pure.

The sentences stand in monitor/alerts/words.py; here they are put together, bounded and laid out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from monitor.alerts import words
from monitor.clock import clock_time, iso, span
from monitor.health import Urgency
from monitor.incidents import Incident, Kind
from monitor.updates import Update

MOST_MEMBERS = 20
TEXT_LIMIT = 8_000  # characters of the plain body; every receiver can take this much
BRIEF_LIMIT = 900  # so that even in four-byte characters and JSON it stays a small message


@dataclass(frozen=True, slots=True)
class ShopFacts:
    """The shop as the configuration names it."""

    name: str
    url: str
    environment: str = "production"
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a page needs beside the incident itself.

    `base` is the address of the operator pages. `means` says what the failing of a probe means to customers ("Customers
    cannot pay"). `install` is the identifier of this installation: with the incident's it names a story in all the world.
    `update` is filled in from the store.
    """

    shop: ShopFacts
    base: str = ""
    works: tuple[str, ...] = ()
    means: Mapping[str, str] = field(default_factory=dict)
    update: Update | None = None
    install: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What is particular to one message to one receiver."""

    receiver: str = ""
    runbook: str = ""
    told: tuple[str, ...] = ()  # the other receivers that were told, or are being told
    missed: bool = False  # the receiver never heard of it while it lasted
    reminder: bool = False  # it was told before
    instead_of: str = ""  # the receiver in whose place this one is told, because it could not be reached
    unreached: float | None = None  # since when (Unix s)


@dataclass(frozen=True, slots=True)
class Page:
    """One page, ready to be laid out by a receiver. Every text is one bounded line; times are Unix s."""

    sentence: str
    state: Literal["firing", "resolved"]
    kind: Kind
    urgency: Urgency
    shop: ShopFacts
    incident: str
    escalation: int
    began: float
    resolved: float | None
    now: float
    changed: str = ""  # the update in words: version, changed parts, phase
    update_link: str = ""
    culprit: str = ""
    members: tuple[Mapping[str, Any], ...] = ()
    works: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    artifacts: tuple[tuple[str, str], ...] = ()  # of the newest evidence that was kept: what it is, and its name
    first: str = ""
    cost: str = ""
    told: tuple[str, ...] = ()
    acked_by: str = ""
    runbook: str = ""
    why: str = ""
    link: str = ""
    merged: bool = False  # it goes on as part of another incident
    install: str = ""  # the installation it comes from
    base: str = ""  # the address of the operator pages

    @property
    def kept(self) -> dict[str, str]:
        """Where the evidence that was kept can be looked at: {"screenshot": address}."""
        return {what: _link(self.base, "artifacts", name) for what, name in self.artifacts if self.base}

    @property
    def drill(self) -> bool:
        return self.kind == "drill"

    @property
    def notice(self) -> bool:
        """News, no alarm."""
        return words.notice(self.kind)

    @property
    def title(self) -> str:
        """One line for a subject or a lock screen, the shop first."""
        return words.line(f"[{self._mark()}] {self.shop.name}: {self.sentence}", 250)

    def text(self) -> str:
        """The whole page as plain text, without markup."""
        kind = self.kind if self.notice else self.urgency
        head = f"{kind} · {self.shop.name} ({self.shop.environment}) · {self._lasting()}"
        rows = [self.sentence + ".", "", head, *self._rows()]
        return "\n".join(rows)[:TEXT_LIMIT]

    def brief(self) -> str:
        """The least that helps, for a receiver that refused the whole page: the sentence, and where to read on."""
        return "\n".join(filter(None, (words.line(self.sentence, 600), self.link)))[:BRIEF_LIMIT]

    def data(self) -> dict[str, Any]:
        """The page for machines. Empty parts are left out; times are RFC 3339 in UTC."""
        shop = {"name": self.shop.name, "url": self.shop.url, "environment": self.shop.environment}
        parts: dict[str, Any] = {
            "incident": self.incident,
            "kind": self.kind,
            "state": self.state,
            "urgency": self.urgency,
            "escalation": self.escalation,
            "shop": shop,
            "sentence": self.sentence,
            "began": iso(self.began),
            "resolved": iso(self.resolved) if self.resolved else "",
            "update": {"text": self.changed, "link": self.update_link} if self.changed else {},
            "culprit": self.culprit,
            "members": list(self.members),
            "works": list(self.works),
            "evidence": list(self.evidence),
            "artifacts": self.kept,
            "do_first": {"action": self.first, "cost": self.cost} if self.first else {},
            "told": list(self.told),
            "acknowledged_by": self.acked_by,
            "runbook": self.runbook,
            "why": self.why,
            "link": self.link,
        }
        return {name: part for name, part in parts.items() if part not in ("", [], {})}

    def _mark(self) -> str:
        if self.drill or self.notice:
            return "TEST" if self.drill else self.kind
        return "merged" if self.merged else "over" if self.state == "resolved" else self.urgency

    def _lasting(self) -> str:
        begun = words.moment(self.began, self.now)
        if self.notice:
            return begun
        if self.resolved is not None:
            return f"from {begun} to {words.moment(self.resolved, self.now)}, lasted {span(self.resolved - self.began)}"
        return f"since {begun}, for {span(max(0.0, self.now - self.began))}, as of {clock_time(self.now)}"

    def _rows(self) -> Sequence[str]:
        update = f"{self.changed} {self.update_link}".strip()
        rows = (
            ("Update", update),
            ("Likely culprit", self.culprit),
            ("Still works", ", ".join(self.works)),
            ("Newest evidence", "".join(f"\n  {line}" for line in self.evidence)),
            *((words.artifact(what), address) for what, address in self.kept.items()),
            ("Do first", self.first),
            ("What that costs", self.cost),
            ("Acknowledged by", self.acked_by),
            ("Also told", ", ".join(self.told)),
            ("Runbook", self.runbook),
            ("Details", self.link),
            ("Why you get this", self.why),
        )
        return [f"{label}:{'' if value[0].isspace() else ' '}{value}" for label, value in rows if value]


def compose(incident: Incident, facts: Facts, delivery: Delivery, now: float) -> Page:
    """The page as it is true at `now`: the same incident reads "for 14 min" a quarter of an hour later."""
    firing, update = incident.open, facts.update
    first, cost = words.first_step(incident, facts.shop.url, update) if firing else ("", "")
    return Page(
        sentence=words.sentence(incident, facts.means, update, now, receiver=delivery.receiver, missed=delivery.missed),
        state="firing" if firing else "resolved",
        kind=incident.kind,
        urgency=incident.urgency,
        shop=facts.shop,
        incident=incident.id,
        escalation=incident.escalation,
        began=incident.began,
        resolved=incident.resolved,
        now=now,
        changed=words.changed(incident, update),
        update_link=_link(facts.base, "updates", incident.update) or (update.link if update else ""),
        culprit=words.culprit(incident, update),
        members=_members(incident),
        works=words.still_works(facts.works, incident) if firing else (),
        evidence=words.evidence(incident) if firing else (),
        artifacts=words.artifacts(incident) if firing else (),
        first=first,
        cost=cost,
        told=delivery.told,
        acked_by=words.line(incident.acked_by, 80),
        runbook=delivery.runbook,
        why=_why(incident, delivery, now),
        link=_details(incident, facts),
        merged=words.merged(incident),
        install=facts.install,
        base=facts.base,
    )


def bare(incident: Incident, facts: Facts, now: float) -> Page:
    """A page without any words that could fail to be made."""
    state: Literal["firing", "resolved"] = "firing" if incident.open else "resolved"
    return Page(
        sentence=f"{incident.kind} at {facts.shop.name} is {state}",
        state=state,
        kind=incident.kind,
        urgency=incident.urgency,
        shop=facts.shop,
        incident=incident.id,
        escalation=incident.escalation,
        began=incident.began,
        resolved=incident.resolved,
        now=now,
        link=_details(incident, facts),
        install=facts.install,
    )


def _why(incident: Incident, delivery: Delivery, now: float) -> str:
    if delivery.reminder and incident.open:
        return words.why_again(incident, now)
    rule = words.why(incident, now)
    return f"{words.in_place_of(delivery.instead_of, delivery.unreached, now)}; {rule}" if delivery.instead_of else rule


def _details(incident: Incident, facts: Facts) -> str:
    """Where its facts are. A drill and a piece of news are no stored incidents."""
    return "" if incident.kind == "drill" or words.notice(incident.kind) else _link(facts.base, "incidents", incident.id)


def _link(base: str, part: str, id_: str) -> str:
    return f"{base.rstrip('/')}/{part}/{id_}" if base and id_ else ""


def _members(incident: Incident) -> tuple[Mapping[str, Any], ...]:
    return tuple(
        {
            "probe": m.probe,
            "device": m.device,
            "cohort": m.cohort,
            "reason": m.reason,
            "since": iso(m.since),
            "failed": m.failed,
            "of": m.of,
            "critical": m.critical,
            "recovered": iso(m.recovered) if m.recovered is not None else None,
        }
        for m in incident.members[:MOST_MEMBERS]
    )
