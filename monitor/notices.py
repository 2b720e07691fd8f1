"""News of an update for those who want it: what has just happened to it, in a sentence. Pure."""

from monitor.clock import clock_time, new_id
from monitor.incidents import Incident
from monitor.updates import Update

_TOLD = frozenset({"start", "phase", "finish", "rollback", "expired", "cancel"})


def notice(update: Update, act: str, by: str, now: float) -> Incident | None:
    """The news that `by` has done `act`; None when that is no news."""
    if act not in _TOLD:
        return None
    return Incident(id=f"notice-{new_id(now)}", kind="update", cause="update", urgency="ticket", opened=now, began=now, update=update.id,
                    version=update.version, said=_sentence(update, act, by))


def _sentence(update: Update, act: str, by: str) -> str:
    parts = [f"{change.name} {change.version}".strip() for change in update.changes]
    name = f"Update {update.version}" + (f" ({', '.join(parts[:5])}{', ...' if len(parts) > 5 else ''})" if parts else "")
    if act == "start":
        down = f"; pages may fail until {clock_time(update.downtime_until)}, as announced" if update.downtime_until else ""
        return f"{name} was started by {by}, phase {update.phase}{down}"
    if act == "phase":
        return f"{name} is now in phase {update.phase}, by {by}"
    if act == "expired":
        return f"{name} was not finished by anybody, and counts as finished"
    words = {"finish": "was finished", "rollback": "is rolled back", "cancel": "was cancelled"}
    return f"{name} {words[act]} by {by}"
