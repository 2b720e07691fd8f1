"""What every receiver shares: its settings, the message it is handed, and the two answers it can give."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from monitor.alerts.page import Page
from monitor.health import Urgency
from monitor.incidents import OURS, Incident
from probes.fields import Duration, Several, Table

Subject = Literal["outage", "regression", "update", "monitor_fault", "announcement"]

What = Literal["firing", "reminder", "acknowledged", "notice", "resolved"]

TIMEOUT = 15.0  # s for one delivery, everything included
REMIND = 4 * 3600.0  # s between two reminders, where nothing else is set
RECEIVER_FAULT = f"{OURS}receiver:"  # begins the cause of the fault that a receiver cannot be told; its name follows


class ReceiverSettings(Table):
    """What every [[receiver]] has, whatever its kind."""

    name: str = Field(min_length=1, max_length=64, description="how metrics, logs and other receivers' messages call it")
    kind: str = Field(description="which kind of receiver")
    on: Several[Subject] = Field(default=("outage", "regression"), description="what it hears of; the end of what was sent is always sent")
    urgency: Urgency = Field(default="page", description="the least urgency of an outage or regression that it hears of")
    runbook: str = Field(default="", description="a link that stands on every page to this receiver")
    fallback: str = Field(default="", description="the receiver that is told instead when this one could not be reached for a minute")
    remind: Duration | None = Field(
        default=None, description="an open page that nobody acknowledged is said again this often; 0s = never"
    )

    resends: ClassVar[bool] = False  # forgets what is not sent again: told every minute while it lasts
    tells_missed: ClassVar[bool] = True  # what began and ended while it could not be reached is told afterwards
    hears_acks: ClassVar[bool] = False  # is told that somebody has taken an incident
    takes_notices: ClassVar[bool] = True  # can be told what is no alarm: an update has started, an announcement
    reminds_itself: ClassVar[bool] = False  # wakes people again by its own rules: no reminders from us unless asked for
    per_minute: ClassVar[float] = 600.0  # messages that it takes a minute, in the long run
    keeps: ClassVar[float] = 86400.0  # s for which news that something is over is still worth sending

    @property
    def reminds(self) -> float:
        """Seconds between two reminders, 0 for none."""
        return self.remind if self.remind is not None else 0.0 if self.reminds_itself else REMIND

    def hears(self, incident: Incident) -> bool:
        """Does this receiver want to know? Urgency only sifts what can be one or the other: the rest is asked for by name."""
        if incident.kind == "drill":
            return True
        if incident.kind not in self.on:
            return False
        return incident.kind not in {"outage", "regression"} or self.urgency == "ticket" or incident.urgency == "page"


def hearers(incident: Incident, receivers: Sequence[ReceiverSettings], sick: Collection[str] = ()) -> list[ReceiverSettings]:
    """Who is told of an open incident. Mostly those that asked for it; but what nobody asked for must not stay unknown:

    That a receiver cannot be told is told to all others, except those that cannot be told themselves (`sick`). And where nobody
    asked for faults of Tillwatch, those that page go to everybody.
    """
    if incident.cause.startswith(RECEIVER_FAULT):
        return _others(incident, receivers, sick)
    if incident.kind == "monitor_fault" and incident.urgency == "page" and not any("monitor_fault" in r.on for r in receivers):
        return list(receivers)
    return [r for r in receivers if r.hears(incident)]


def _others(fault: Incident, receivers: Sequence[ReceiverSettings], sick: Collection[str]) -> list[ReceiverSettings]:
    """Who is told that one of `receivers` cannot be. If it misses tickets alone, nobody is woken for it where another can be told."""
    name = fault.cause.removeprefix(RECEIVER_FAULT)
    if all(r.name != name for r in receivers):
        return []  # it is gone, and its fault about to end
    others = [r for r in receivers if r.name not in {name, *sick}]
    patient = [r for r in others if r.urgency == "ticket" or "monitor_fault" in r.on]
    return patient or others if fault.urgency == "ticket" else others


@dataclass(frozen=True, slots=True)
class Told:
    """What this receiver was sent before about the same incident: its state then, and when the next message replaced it."""

    incident: Incident
    replaced: float


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one receiver. `id` stays the same over all attempts, so that a receiver can drop a repetition.

    `what`: it began (or got worse), it still lasts, somebody has taken it, news that is no alarm, it is over.
    `opened` is the incident as it was when the message was written down: what identifies it is taken from there and never
    changes, while `page` has the words of this moment. `minimal` asks for the least that helps, after a refusal.
    """

    id: str
    what: What
    opened: Incident
    page: Page
    earlier: tuple[Told, ...] = ()
    settled: tuple[str, ...] = ()  # parts (recipients) that need not be tried again
    minimal: bool = False


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver's own answer says that it has it."""

    detail: str = ""


@dataclass(frozen=True, slots=True)
class DeliveryError:
    """It does not have it. `reason` is for people and holds no secret; `code` is short and from a small set.

    `permanent`: the same again would be refused again. `retry_after`: s that the receiver asked to be left alone.
    """

    reason: str
    permanent: bool = False
    retry_after: float | None = None
    code: str = ""
    settled: tuple[str, ...] = ()
