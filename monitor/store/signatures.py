"""Every error that a shop has logged, by its signature: kept with the samples, in the same transactions."""

import math
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from monitor import parts
from monitor.store import records
from monitor.updates import Status, Update
from probes.sample import Sample, Trigger

MOST = 5_000               # signatures of one probe; those that were not seen for longest go
EXAMPLE = 400              # characters of an example
_UPDATE = """
    UPDATE signature SET first = min(first, ?), last = max(last, ?), events = events + ?, example = CASE example WHEN '' THEN ? ELSE example END
    WHERE probe = ? AND name = ?"""
_FOUND = """
    SELECT probe, name, first, last, events, example FROM signature
    WHERE first >= ? AND first < ? AND (? IS NULL OR probe = ?) ORDER BY first DESC, events DESC, name LIMIT ?"""
_NEWER = "SELECT min(started) FROM shop_update WHERE started > ? AND status NOT IN (?, ?)"
_SURPLUS = "DELETE FROM signature WHERE probe = ? AND name IN (SELECT name FROM signature WHERE probe = ? ORDER BY last DESC, name LIMIT -1 OFFSET ?)"


@dataclass(frozen=True, slots=True)
class Signature:
    """One kind of error. `first` and `last` are the starts (Unix s) of the runs that found it first and last; `name` and `example` are the
    shop's words, scrubbed: whoever shows them has to escape them.
    """

    probe: str
    name: str                  # "error:KeyError at payment_gateway.py _reference [payment_gateway]"
    first: float
    last: float
    events: int
    example: str               # how the first one read; "" when it is not known


def note(connection: sqlite3.Connection, samples: Iterable[Sample]) -> None:
    """Add what these runs found; runs that somebody asked for do not count."""
    found: dict[tuple[str, str], tuple[float, float, int, str]] = {}
    for sample in samples:
        if not sample.counts or sample.trigger is Trigger.MANUAL:
            continue
        for counted, events in sample.counts.items():
            if events > 0 and counted.startswith(parts.SIGNATURE):
                name = counted[len(parts.SIGNATURE):]
                first, last, before, example = found.get((sample.probe, name), (math.inf, -math.inf, 0, ""))
                found[sample.probe, name] = (
                    min(first, sample.started), max(last, sample.started), before + events, example or sample.examples.get(name, "")[:EXAMPLE])
    new = {key: seen for key, seen in found.items() if not connection.execute(_UPDATE, (*seen, *key)).rowcount}
    connection.executemany("INSERT INTO signature VALUES (?, ?, ?, ?, ?, ?)", [(*key, *seen) for key, seen in new.items()])
    for probe in {probe for probe, _ in new}:
        if connection.execute("SELECT count(*) FROM signature WHERE probe = ?", (probe,)).fetchone()[0] > MOST:
            connection.execute(_SURPLUS, (probe, probe, MOST))


def found(
    connection: sqlite3.Connection, probe: str | None = None, since: float = 0.0, until: float = math.inf, limit: int = MOST,
) -> list[Signature]:
    """Signatures first seen in [since, until), Unix s, newest first; of one probe if given."""
    return [Signature(*row) for row in connection.execute(_FOUND, (since, until, probe, probe, limit))]


Until = Callable[[Update], float | None]      # until when (Unix s) what is new may belong to an update; None: for as long as there is no newer one


def told(
    connection: sqlite3.Connection, until: Until, probe: str | None = None, since: float = 0.0, limit: int = MOST,
) -> list[dict[str, Any]]:
    """The same for whoever asks, JSON-able: with the update in which each first appeared, and which part changed by it an error lies in."""
    updates = [(update, until(update)) for update in records.updates(connection)]

    def belongs(first: float) -> Update | None:
        return next((u for u, end in updates if u.started <= first and (end is None or first < end)), None)
    return [_told(signature, belongs(signature.first)) for signature in found(connection, probe, since, limit=limit)]


def told_of(connection: sqlite3.Connection, update: Update, until: float | None) -> list[dict[str, Any]]:
    """Those that first appeared in an update, as `told` has them: what lies in a changed part first, then the worst, then the most frequent."""
    newer = connection.execute(_NEWER, (update.started, Status.CANCELLED.value, Status.REFUSED.value)).fetchone()[0]
    end = min(math.inf if until is None else until, math.inf if newer is None else newer)
    rows = [_told(signature, update) for signature in found(connection, None, update.started, end)]
    return sorted(rows, key=lambda row: (not row["changed"], parts.LEVELS.index(f"{row['level']}:") if row["level"] else 9, -row["events"]))


def _told(signature: Signature, update: Update | None) -> dict[str, Any]:
    return asdict(signature) | {
        "level": parts.level(signature.name), "text": parts.plain(signature.name), "update": update.id if update else "",
        "changed": parts.changed_part(signature.name, update.parts) if update else "",
    }
