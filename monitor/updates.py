"""An update of the shop and its life: (update, facts, now) -> (update, reason). Pure.

    start ──> open ──finish/expiry──> observing ──verdict──> closed
                │                          │
                ├──────── rollback ────────┴──> recovering ──back to normal──> closed
                └──────── cancel ──> cancelled

A verdict of *regression* can fall in any of these states and stays; the others fall only when observing.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from monitor.judge.ruling import Ruling
from monitor.judge.verdict import Judging
from probes.fields import Duration

OBSERVE_AT_MOST = 7200.0       # "auto" ends here when there is still no pass, in s


def _a_date(text: str) -> str:
    if text:
        try:
            datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f'write a date such as "2026-12-24" or "2026-12-24T18:00", not "{text}"') from None
    return text


class UpdateSettings(Judging):
    """The table [update]."""

    attribute_for: Duration = Field(default=7 * 86400.0, description="a later outage still names this update")
    expire_after: Duration = Field(default=7200.0, description="an update that nobody finishes is taken as finished")
    interval_factor: float = Field(default=0.25, gt=0, le=1, description="probes run this much faster while an update is watched")
    bursts_per_day: int = Field(default=4, ge=0, le=96, description="short bursts at that faster spacing, for the baseline")
    shadow_until: Annotated[str, AfterValidator(_a_date)] = Field(default="", description="until this date nobody is paged")

    @property
    def observe_limit(self) -> float:
        """The longest observation after finish and warm-up, in s."""
        return OBSERVE_AT_MOST if self.observe == "auto" else self.observe


class Status(StrEnum):
    OPEN = "open"
    OBSERVING = "observing"
    RECOVERING = "recovering"
    CLOSED = "closed"
    CANCELLED = "cancelled"
    REFUSED = "refused"


LIVE = frozenset({Status.OPEN, Status.OBSERVING, Status.RECOVERING})


@dataclass(frozen=True, slots=True)
class Changed:
    """One part of the shop that the update changes, with its new version ("" when not said)."""

    name: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Update:
    """One update. Times are Unix s; `segments` are the starts of what is judged apart: start, each phase, finish."""

    id: str
    version: str
    started: float
    by: str
    phase: str = "all"
    status: Status = Status.OPEN
    changes: tuple[Changed, ...] = ()
    link: str = ""
    override: str = ""
    downtime_until: float = 0.0
    expires: float = 0.0
    segments: tuple[float, ...] = ()
    finished: float | None = None
    rolled_back: float | None = None
    recovered: float | None = None
    closed: float | None = None
    verdict: str = "watching"
    verdict_at: float | None = None
    ruling: Mapping[str, Any] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        return self.status in LIVE

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of what it changes."""
        return tuple(change.name for change in self.changes)

    @property
    def regressed(self) -> bool:
        return self.verdict == "regression"

    @property
    def in_doubt(self) -> bool:
        """It did not pass, and something was half way to an alarm when it was last looked at."""
        return self.verdict != "pass" and any(
            not signal["control"] and signal["evidence"] is not None and signal["evidence"] >= signal["threshold"] / 2
            for signal in self.ruling.get("signals", ()))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able. Not by `asdict` as a whole: that copies the ruling deeply, 50 us a signal."""
        return {name: getattr(self, name) for name in _NAMES} | {"changes": [asdict(change) for change in self.changes]}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Update":
        known = {name: stored[name] for name in _NAMES if name in stored}
        known["status"] = Status(known["status"])
        known["changes"] = tuple(Changed(**change) for change in known.get("changes", ()))
        known["segments"] = tuple(known.get("segments", ()))
        return cls(**known)


_NAMES = tuple(f.name for f in fields(Update))


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an act cannot be done now, in words."""

    reason: str


def act(update: Update, name: str, detail: str, now: float) -> Update | Refusal:
    """What a person may say of an update: phase (`detail` names it), finish, rollback or cancel."""
    if name == "phase":
        return phase(update, detail, now)
    return {"finish": finish, "rollback": rollback, "cancel": cancel}[name](update, now)


def phase(update: Update, name: str, now: float) -> Update | Refusal:
    """The update in its next phase, which is judged as a segment of its own."""
    if update.status is not Status.OPEN:
        return _wrong(update, "can have no further phase")
    if update.phase == name:
        return Refusal(f"update {update.id} is already in phase {name}")
    return replace(update, phase=name, segments=(*update.segments, now))


def finish(update: Update, now: float) -> Update | Refusal:
    """The update as rolled out everywhere: from here on it is observed, and can pass."""
    if update.status is not Status.OPEN:
        return _wrong(update, "cannot be finished")
    return replace(update, status=Status.OBSERVING, finished=now, segments=(*update.segments, now), downtime_until=min(update.downtime_until, now))


def rollback(update: Update, now: float) -> Update | Refusal:
    """The update as taken back: what follows is judged by "back to normal"."""
    if update.status not in {Status.OPEN, Status.OBSERVING}:
        return _wrong(update, "cannot be rolled back")
    return replace(update, status=Status.RECOVERING, rolled_back=now)


def cancel(update: Update, now: float) -> Update | Refusal:
    """The update as never having happened; a regression found stays on record."""
    if update.status is not Status.OPEN:
        return _wrong(update, "cannot be cancelled")
    return replace(update, status=Status.CANCELLED, closed=now)


def supersede(update: Update, now: float) -> Update:
    """The earlier update closed with the verdict it has, because the next one starts."""
    verdict = "inconclusive" if update.verdict == "watching" else update.verdict
    at = update.verdict_at if update.verdict != "watching" else now
    return replace(update, status=Status.CLOSED, closed=now, verdict=verdict, verdict_at=at)


def expired(update: Update, now: float) -> bool:
    """Nobody finished it in time: it is taken as finished."""
    return update.status is Status.OPEN and update.expires <= now


def observed_enough(update: Update, settings: UpdateSettings, now: float) -> bool:
    """The observation is over: there will be no better answer than the present one."""
    if update.status is not Status.OBSERVING or update.finished is None:
        return False
    return now >= update.finished + settings.warm_up + settings.observe_limit


def decided_by(update: Update, settings: UpdateSettings) -> float | None:
    """Unix s at which there will be a verdict at the latest; None when there is one, or there will be none."""
    if update.verdict != "watching" or not update.live or update.status is Status.RECOVERING:
        return None
    finish_at = update.finished if update.finished is not None else update.expires
    return finish_at + settings.warm_up + settings.observe_limit


def shadowed(settings: UpdateSettings, now: float) -> bool:
    """A shadow run: everything is recorded and shown, and nobody is paged."""
    return bool(settings.shadow_until) and now < datetime.fromisoformat(settings.shadow_until).astimezone().timestamp()


def ruled(update: Update, ruling: Ruling, now: float) -> Update:
    """The update with the judge's newest word. A regression stays; a pass or an inconclusive end closes it."""
    if update.verdict != "watching":
        return replace(update, ruling=ruling.to_dict()) if ruling.verdict == update.verdict else update
    update = replace(update, ruling=ruling.to_dict())
    if ruling.verdict == "watching":
        return update
    update = replace(update, verdict=ruling.verdict, verdict_at=now)
    return update if update.regressed else replace(update, status=Status.CLOSED, closed=now)


def recovered(update: Update, now: float) -> Update:
    """The shop is back to normal after a rollback (closed), or by itself (the update goes on)."""
    if update.status is Status.RECOVERING:
        return _over(replace(update, recovered=now), now)
    return replace(update, recovered=now)


def closes(update: Update, settings: UpdateSettings, now: float) -> Update | None:
    """What nobody waits for any longer: a regressed update that was finished all the same, and a rollback that did not
    bring the shop back to normal, are closed when the time of an observation is over. Their incident stays open.
    """
    if update.regressed and observed_enough(update, settings, now):
        return _over(update, now)
    waited = now - (update.rolled_back if update.rolled_back is not None else now)
    return _over(update, now) if update.status is Status.RECOVERING and waited >= settings.warm_up + settings.observe_limit else None


def _over(update: Update, now: float) -> Update:
    """Closed; one that was taken back before there was a verdict gets none."""
    if update.verdict == "watching":
        update = replace(update, verdict="inconclusive", verdict_at=now)
    return replace(update, status=Status.CLOSED, closed=now)


def muted(update: Update | None, now: float) -> bool:
    """Downtime was announced for this moment: record, and page nobody."""
    return update is not None and update.status is Status.OPEN and now < update.downtime_until


def suspect(updates: "list[Update]", settings: UpdateSettings, now: float) -> Update | None:
    """The newest update that an outage which begins now may belong to."""
    for update in sorted(updates, key=lambda u: u.started, reverse=True):
        until = attributed_until(update, settings)
        if update.started <= now and (until is None or now < until):
            return update
    return None


def attributed_until(update: Update, settings: UpdateSettings) -> float | None:
    """Until when (Unix s) what begins may belong to this update, if no newer one starts before; None when that is not known yet."""
    if update.status in {Status.CANCELLED, Status.REFUSED}:
        return update.started
    if update.recovered is not None or update.live:
        return update.recovered
    return max((update.finished or update.started) + settings.attribute_for, update.closed or 0.0)


def _wrong(update: Update, cannot: str) -> Refusal:
    return Refusal(f"update {update.id} ({update.version}) is {update.status.value}: it {cannot}")
