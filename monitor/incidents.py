"""What is wrong now: which flips and verdicts belong to one story, and when it gets worse. Pure."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from monitor.health import Flip, State, Target, Urgency
from monitor.updates import Update

Kind = Literal["outage", "regression", "monitor_fault", "update", "announcement", "drill"]
What = Literal["firing", "escalated", "changed", "acknowledged", "feedback", "resolved"]
Feedback = Literal["useful", "false"]

PART_OF = "part of incident "      # the resolution of what goes on under another incident
GONE = "no longer configured"      # the resolution of an incident of which nothing is watched any more
REMOVED = "removed"                # the reason of the flip of a target that is no longer configured
OURS = "self:"                     # begins the cause of a fault that Tillwatch finds in itself
STORM = "storm"                    # the cause of the one incident for all that goes wrong at once
STORM_OPENED, STORM_SECONDS = 8, 60.0      # so many opened within so long: with two storms and the ends of all of them at most twenty messages

STORY_SECONDS = 900.0              # what begins so long after the newest failing of an incident is a story of its own
FRESH_SECONDS = 300.0              # a page so young is being read just now: a critical probe that joins needs no other

# One cause shows under several reasons: a dead web server is refused, times out or is reset as it likes.
_CAUSES = {
    "dns": "dns", "dns_timeout": "dns",
    "connect_refused": "unreachable", "connect_timeout": "unreachable", "connect_failed": "unreachable", "timeout": "unreachable",
    "status": "errors", "protocol": "errors", "maintenance": "errors", "slow": "slow",
}


@dataclass(frozen=True, slots=True)
class Member:
    """One target that belongs to an incident. `failed` of `of` newest runs had failed when it joined."""

    probe: str
    device: str
    cohort: str
    reason: str
    since: float
    failed: int
    of: int
    urgency: Urgency
    critical: bool = False
    evidence: str = ""
    recovered: float | None = None


@dataclass(frozen=True, slots=True)
class Incident:
    """One story: an outage by its cause, a regression by its update, or a fault of ours. Times are Unix s."""

    id: str
    kind: Kind
    cause: str
    urgency: Urgency
    opened: float
    began: float
    update: str = ""               # the update it belongs to, or may belong to
    version: str = ""
    members: tuple[Member, ...] = ()
    ruling: Mapping[str, Any] = field(default_factory=dict)     # the verdict that opened it
    escalation: int = 0            # counted up when it gets worse than what was told: a new page
    told: bool = False             # it was handed to the outbox (not muted)
    acked_by: str = ""
    acked_at: float | None = None
    resolved: float | None = None
    resolution: str = ""           # why it ended
    said: str = ""                 # what it is, in words, where no probe says it: a fault of ours, a step of an update
    feedback: str = ""             # useful | false: what people thought of its page

    @property
    def open(self) -> bool:
        return self.resolved is None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Incident":
        known = {name: stored[name] for name in _NAMES if name in stored}
        known["members"] = tuple(Member(**member) for member in known.get("members", ()))
        return cls(**known)


_NAMES = tuple(f.name for f in fields(Incident))


@dataclass(frozen=True, slots=True)
class Transition:
    """A stored step in an incident's life. Only `firing`, `escalated`, `acknowledged` and `resolved` are told."""

    what: What
    incident: Incident


@dataclass(frozen=True, slots=True)
class Context:
    """What a flip alone does not say: the target's worth, and the update it may belong to."""

    host: str = ""
    urgency: Urgency = "page"
    critical: bool = False
    suspect: Update | None = None
    watched: bool = False          # `suspect` is under way now, so its incident takes all that goes wrong
    storm: bool = False            # so many incidents were opened just now that another outage is no story of its own


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong with Tillwatch itself: in words for people, without anything that changes from look to look."""

    said: str
    urgency: Urgency = "ticket"
    after: float = 0.0             # s that it must have lasted before it is told


def on_flip(incidents: Sequence[Incident], flip: Flip, context: Context, new_id: Callable[[], str]) -> list[Transition]:
    """What a flip does to the open incidents."""
    if flip.new in {State.UP, State.MEASURED}:
        return _leave(incidents, flip)
    cause, kind = _cause(flip, context)
    member = _member(flip, context)
    same = [i for i in _caused(incidents, cause) if kind == "monitor_fault" or _under_way(i, flip.at)]
    if flip.old is State.DOWN:                       # once more: it belongs where it was told, whatever the reason is now
        same = [i for i in incidents if i.kind != "monitor_fault" and any(_is_down(m, flip.target) for m in i.members)] or same
    if not same and kind == "outage" and context.suspect and context.watched:
        same = _of(incidents, context.suspect.id)[:1]      # one incident per update, whatever goes wrong while it is under way
    if not same and kind == "outage" and context.storm:
        cause, same = STORM, [i for i in _caused(incidents, STORM) if _under_way(i, flip.at)]
    return [_joined(same[-1], member, flip) if same else Transition("firing", _opened(flip, kind, cause, member, context, new_id()))]


def on_regression(incidents: Sequence[Incident], update: Update, urgency: Urgency, now: float, new_id: Callable[[], str]) -> list[Transition]:
    """What the verdict *regression* does: it opens the update's one incident, or makes one of all that are open already."""
    ours = _of(incidents, update.id)
    if ours:
        return [_blamed(_merged(ours), ours[0], update, urgency), *(_part_of(ours[0], other, now) for other in ours[1:])]
    incident = Incident(
        id=new_id(), kind="regression", cause=f"update:{update.id}", urgency=urgency, opened=now,
        began=update.segments[-1] if update.segments else update.started, update=update.id, version=update.version, ruling=update.ruling,
    )
    return [Transition("firing", incident)]


def on_ruling(incidents: Iterable[Incident], update: Update, urgency: Urgency) -> list[Transition]:
    """What a newer ruling does to the regression's incident: it may name more than was told, or what is worth more."""
    ours = (i for i in incidents if i.open and i.kind == "regression" and i.update == update.id)
    return [_blamed(i, i, update, urgency) for i in ours
            if _guilty(update.ruling) - _guilty(i.ruling) or (urgency == "page" and i.urgency == "ticket")]


def on_recovery(incidents: Sequence[Incident], update: Update, why: str, now: float) -> list[Transition]:
    """The update's regression is over. A member that is still down keeps the incident open as an outage."""
    ours = [i for i in incidents if i.open and i.kind == "regression" and i.update == update.id]
    return [
        Transition("changed", replace(incident, kind="outage")) if _down(incident.members)
        else Transition("resolved", replace(incident, resolved=now, resolution=why))
        for incident in ours
    ]


def storming(opened: Iterable[float], now: float) -> bool:
    """Were so many incidents opened just now (at these times) that a reader could not tell one from the other?"""
    return sum(now - at < STORM_SECONDS for at in opened) >= STORM_OPENED


def acknowledged(incident: Incident, by: str, now: float) -> Transition:
    """Somebody has taken it."""
    return Transition("acknowledged", replace(incident, acked_by=by, acked_at=now))


def rated(incident: Incident, feedback: Feedback) -> Transition:
    """Somebody says whether its page was of use; also when it is over."""
    return Transition("feedback", replace(incident, feedback=feedback))


def on_faults(incidents: Iterable[Incident], faults: Mapping[str, Fault], ended: Collection[str], now: float,
              since: Mapping[str, float], new_id: Callable[[], str]) -> list[Transition]:
    """What the faults that Tillwatch finds in itself do to the open incidents: `faults` and `since` (Unix s) by cause are to be told
    of, the causes in `ended` are over; what is in neither is left as it is.
    """
    open_ = {i.cause: i for i in incidents if i.open and i.cause.startswith(OURS)}
    out = [Transition("resolved", replace(i, resolved=now, resolution="mended")) for cause, i in open_.items() if cause in ended]
    for cause, fault in faults.items():
        incident = open_.get(cause)
        if incident is None:
            fresh = Incident(id=new_id(), kind="monitor_fault", cause=cause, urgency=fault.urgency, opened=now, began=since[cause], said=fault.said)
            out.append(Transition("firing", fresh))
        elif incident.urgency == "ticket" and fault.urgency == "page":
            out.append(_worse(replace(incident, urgency="page", said=fault.said)))
        elif incident.said != fault.said:
            out.append(Transition("changed", replace(incident, said=fault.said)))
    return out


def concerned(incident: Incident) -> set[str]:
    """Names of the probes that an open incident is about now: those that are still bad, and those that the verdict names as worse."""
    guilty = _guilty(incident.ruling) if incident.kind == "regression" else set()
    return guilty | {m.probe for m in incident.members if m.recovered is None}


def _guilty(ruling: Mapping[str, Any]) -> set[str]:
    return {str(s["probe"]) for s in ruling.get("signals", ()) if s.get("guilty")}


def _cause(flip: Flip, context: Context) -> tuple[str, Kind]:
    if flip.new is State.BROKEN:
        return f"broken:{flip.reason}", "monitor_fault"
    group = _CAUSES.get(flip.reason) or ("tls" if flip.reason.startswith("tls") else f"{flip.probe}:{flip.reason}")
    return f"{group}@{context.host}", "outage"


def _caused(incidents: Iterable[Incident], cause: str) -> list[Incident]:
    return [incident for incident in incidents if incident.open and incident.cause == cause]


def _under_way(incident: Incident, now: float) -> bool:
    """Is what fails now still of the same story? What nobody has mended for long must not swallow the next outage."""
    return not incident.told or now - max(m.since for m in incident.members) < STORY_SECONDS


def _of(incidents: Iterable[Incident], update: str) -> list[Incident]:
    """What is open of this update: its regression first, then the oldest."""
    ours = (i for i in incidents if i.open and i.update == update and i.kind in {"regression", "outage"})
    return sorted(ours, key=lambda i: (i.kind != "regression", i.opened, i.id))


def _member(flip: Flip, context: Context) -> Member:
    return Member(
        probe=flip.probe, device=flip.device, cohort=flip.cohort, reason=flip.reason, since=flip.since, failed=flip.failed, of=flip.of,
        urgency=context.urgency, critical=context.critical, evidence=flip.evidence,
    )


def _opened(flip: Flip, kind: Kind, cause: str, member: Member, context: Context, id_: str) -> Incident:
    suspect = context.suspect if kind == "outage" else None
    return Incident(
        id=id_, kind=kind, cause=cause, urgency=member.urgency if kind == "outage" else "ticket", opened=flip.at, began=flip.since,
        update=suspect.id if suspect else "", version=suspect.version if suspect else "", members=(member,),
    )


def _joined(incident: Incident, member: Member, flip: Flip) -> Transition:
    """With another member, or one that is down for good after coming and going. Worse than what was told or acknowledged is a new page:
    page instead of ticket, a critical probe where none was down, unless the page is a few minutes old and nobody has taken it.
    """
    others = tuple(m for m in incident.members if _target(m) != _target(member))
    pages = incident.urgency == "ticket" and member.urgency == "page" and incident.kind != "monitor_fault"
    news = incident.acked_at is not None or flip.at - incident.opened >= FRESH_SECONDS
    critical = member.critical and news and not _critical(others)
    stays = flip.old is State.DOWN and incident.acked_at is not None
    incident = replace(incident, members=(*others, member), urgency="page" if pages else incident.urgency)
    return _worse(incident) if pages or critical or stays else Transition("changed", incident)


def _merged(incidents: Sequence[Incident]) -> Incident:
    """The first with the members of all. Of a target that is in several, the one that is down or was down last stays."""
    newest = sorted((m for i in incidents for m in i.members), key=lambda m: (m.recovered is None, m.since))
    members = {_target(m): m for m in newest}
    return replace(incidents[0], began=min(i.began for i in incidents), members=tuple(sorted(members.values(), key=lambda m: m.since)),
                   urgency="page" if any(i.urgency == "page" for i in incidents) else "ticket")


def _blamed(merged: Incident, told: Incident, update: Update, urgency: Urgency) -> Transition:
    """The outage that is open turns out to be this update's regression. A new page when it is worse than what was told of it."""
    incident = replace(merged, kind="regression", cause=f"update:{update.id}", ruling=update.ruling,
                       urgency="page" if urgency == "page" else merged.urgency)
    pages = told.urgency == "ticket" and incident.urgency == "page"
    critical = told.acked_at is not None and _critical(incident.members) and not _critical(told.members)
    return _worse(incident) if pages or critical else Transition("changed", incident)


def _part_of(kept: Incident, other: Incident, now: float) -> Transition:
    return Transition("resolved", replace(other, resolved=now, resolution=f"{PART_OF}{kept.id}"))


def _worse(incident: Incident) -> Transition:
    return Transition("escalated", replace(incident, escalation=incident.escalation + 1, acked_by="", acked_at=None))


def _leave(incidents: Sequence[Incident], flip: Flip) -> list[Transition]:
    """The target is well again. An outage ends with its last member; a regression ends only by its own test."""
    out = []
    for incident in incidents:
        ours = (incident.kind == "monitor_fault") == (flip.new is State.MEASURED)
        if not incident.open or not ours or not any(_is_down(m, flip.target) for m in incident.members):
            continue
        members = tuple(replace(m, recovered=flip.at) if _target(m) == flip.target else m for m in incident.members)
        if incident.kind == "regression" or _down(members):
            out.append(Transition("changed", replace(incident, members=members)))
        else:
            why = GONE if flip.reason == REMOVED else "recovered"
            out.append(Transition("resolved", replace(incident, members=members, resolved=flip.at, resolution=why)))
    return out


def _critical(members: Iterable[Member]) -> bool:
    return any(m.critical and m.recovered is None for m in members)


def _down(members: Iterable[Member]) -> bool:
    return any(m.recovered is None for m in members)


def _is_down(member: Member, target: Target) -> bool:
    return _target(member) == target and member.recovered is None


def _target(member: Member) -> Target:
    return member.probe, member.device, member.cohort
