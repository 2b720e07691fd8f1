"""Flips, health, incidents, updates and baselines as rows. Each function runs inside the writer's or a reader's turn."""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from monitor.health import Flip, Health, Target
from monitor.incidents import Feedback, Incident
from monitor.updates import LIVE, Update


def install_id(connection: sqlite3.Connection, fresh: str) -> str:
    """The identifier of this installation, made once."""
    connection.execute("INSERT OR IGNORE INTO meta VALUES ('install_id', ?)", (fresh,))
    return str(connection.execute("SELECT value FROM meta WHERE name = 'install_id'").fetchone()[0])


_MEASURED = "measured:"            # begins the name of a row of meta, one a probe
MOST_MEASURED = 20                 # changes of one probe that are remembered


def note_measured(connection: sqlite3.Connection, prints: Mapping[str, str], now: float) -> None:
    """Remember from when on (Unix s) each probe measures what it does now, named by a fingerprint.

    A probe that was never noted has always measured this. What is dated later than now was noted by a clock that was ahead.
    """
    known = measured(connection)
    for probe, fingerprint in prints.items():
        noted = known.get(probe, [])
        kept = [(since, one) for since, one in noted if since <= now]
        if not kept or kept[-1][1] != fingerprint:
            kept.append((now if kept else 0.0, fingerprint))
        if kept != noted:
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_MEASURED + probe, json.dumps(kept[-MOST_MEASURED:])))


def measured(connection: sqlite3.Connection) -> dict[str, list[tuple[float, str]]]:
    """What each probe has measured: since when (Unix s, ascending), and a fingerprint of it."""
    rows = connection.execute("SELECT name, value FROM meta WHERE substr(name, 1, ?) = ?", (len(_MEASURED), _MEASURED))
    return {name[len(_MEASURED):]: [(since, fingerprint) for since, fingerprint in json.loads(value)] for name, value in rows}


def save_health(connection: sqlite3.Connection, target: Target, health: Health) -> None:
    connection.execute("INSERT OR REPLACE INTO health VALUES (?, ?, ?, ?)", (*target, json.dumps(asdict(health))))


def load_health(connection: sqlite3.Connection) -> dict[Target, Health]:
    out = {}
    for probe, device, cohort, state in connection.execute("SELECT probe, device, cohort, state FROM health"):
        stored = json.loads(state)
        lists = {name: tuple(stored.get(name, ())) for name in ("window", "unmeasured", "downs")}      # an older version wrote no "downs"
        out[probe, device, cohort] = Health(**stored | lists)
    return out


def add_flip(connection: sqlite3.Connection, flip: Flip) -> None:
    connection.execute(
        "INSERT INTO flip (probe, device, cohort, at, old, new, reason, since, evidence) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*flip.target, flip.at, flip.old.value, flip.new.value, flip.reason, flip.since, flip.evidence))


def flips(connection: sqlite3.Connection, since: float, until: float) -> list[dict[str, Any]]:
    rows = connection.execute(
        "SELECT probe, device, cohort, at, old, new, reason, since, evidence FROM flip WHERE at BETWEEN ? AND ? ORDER BY id", (since, until))
    return [dict(zip(("probe", "device", "cohort", "at", "old", "new", "reason", "since", "evidence"), row, strict=True)) for row in rows]


def save_incident(connection: sqlite3.Connection, incident: Incident, at: float, what: str, by: str = "", detail: str = "") -> None:
    """Store the incident as it is now, and the step that made it so."""
    connection.execute(
        "INSERT OR REPLACE INTO incident VALUES (?, ?, ?, ?, ?, ?)",
        (incident.id, incident.kind, incident.opened, incident.resolved, incident.update, json.dumps(incident.to_dict())))
    connection.execute(
        "INSERT INTO incident_step (incident, at, what, by, detail) VALUES (?, ?, ?, ?, ?)", (incident.id, at, what, by, detail))


def open_incidents(connection: sqlite3.Connection) -> list[Incident]:
    rows = connection.execute("SELECT facts FROM incident WHERE resolved IS NULL ORDER BY opened")
    return [Incident.from_dict(json.loads(facts)) for (facts,) in rows]


def incidents(connection: sqlite3.Connection, since: float = 0.0, update: str | None = None, limit: int = 500) -> list[Incident]:
    """Incidents that were open at or after `since`, newest first; of one update if given."""
    rows = connection.execute(
        "SELECT facts FROM incident WHERE (resolved IS NULL OR resolved >= ?) AND (? IS NULL OR update_id = ?) ORDER BY opened DESC LIMIT ?",
        (since, update, update, limit))
    return [Incident.from_dict(json.loads(facts)) for (facts,) in rows]


def incident(connection: sqlite3.Connection, id_: str) -> Incident | None:
    row = connection.execute("SELECT facts FROM incident WHERE id = ?", (id_,)).fetchone()
    return Incident.from_dict(json.loads(row[0])) if row else None


def incident_steps(connection: sqlite3.Connection, id_: str) -> list[dict[str, Any]]:
    rows = connection.execute("SELECT at, what, by, detail FROM incident_step WHERE incident = ? ORDER BY id", (id_,))
    return [dict(zip(("at", "what", "by", "detail"), row, strict=True)) for row in rows]


def rate(connection: sqlite3.Connection, id_: str, feedback: Feedback, at: float, by: str) -> None:
    """Store what people thought of an incident that is over, as it is by now."""
    found = incident(connection, id_)
    if found:
        save_incident(connection, replace(found, feedback=feedback), at, "feedback", by, feedback)


_SILENCE = ("id", "probes", "starts", "ends", "reason", "by", "ended", "ended_by")


def save_silence(connection: sqlite3.Connection, silence: Mapping[str, Any]) -> None:
    """Store a silence as it is now; `probes` are names and patterns."""
    values = {name: silence[name] for name in _SILENCE} | {"probes": json.dumps(list(silence["probes"]))}
    connection.execute(f"INSERT OR REPLACE INTO silence ({', '.join(_SILENCE)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", tuple(values.values()))  # noqa: S608


def silences(connection: sqlite3.Connection, since: float) -> list[dict[str, Any]]:
    """The silences that hold at or after `since` (Unix s), oldest first."""
    rows = connection.execute(f"SELECT {', '.join(_SILENCE)} FROM silence WHERE coalesce(ended, ends) >= ? ORDER BY id", (since,))  # noqa: S608
    found = [dict(zip(_SILENCE, row, strict=True)) for row in rows]
    return [silence | {"probes": tuple(json.loads(silence["probes"]))} for silence in found]


def save_update(connection: sqlite3.Connection, update: Update) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO shop_update VALUES (?, ?, ?, ?)",
        (update.id, update.started, update.status.value, json.dumps(update.to_dict())))


def add_act(connection: sqlite3.Connection, update: str, at: float, by: str, act: str, detail: str = "") -> None:
    """Who did what to an update, and when: the name of the token, never its value."""
    connection.execute("INSERT INTO update_act (update_id, at, by, act, detail) VALUES (?, ?, ?, ?, ?)", (update, at, by, act, detail))


def step_update(connection: sqlite3.Connection, update: Update, at: float, by: str, act: str, detail: str) -> None:
    """The update as it is now, and the act that made it so."""
    save_update(connection, update)
    add_act(connection, update.id, at, by, act, detail)


def start_update(
    connection: sqlite3.Connection, update: Update, baselines: Iterable[tuple[Target, Mapping[str, Any]]], superseded: Iterable[Update], by: str,
) -> None:
    """A new update with its frozen "before", and the earlier ones that it closes."""
    step_update(connection, update, update.started, by, "start", update.override)
    save_baselines(connection, update.id, baselines)
    for earlier in superseded:
        step_update(connection, earlier, update.started, "tillwatch", "superseded", update.id)


def acts(connection: sqlite3.Connection, update: str) -> list[dict[str, Any]]:
    rows = connection.execute("SELECT at, by, act, detail FROM update_act WHERE update_id = ? ORDER BY id", (update,))
    return [dict(zip(("at", "by", "act", "detail"), row, strict=True)) for row in rows]


def updates(connection: sqlite3.Connection, limit: int = 100) -> list[Update]:
    """The newest updates, newest first."""
    rows = connection.execute("SELECT facts FROM shop_update ORDER BY started DESC LIMIT ?", (limit,))
    return [Update.from_dict(json.loads(facts)) for (facts,) in rows]


def newest_update(connection: sqlite3.Connection) -> Update | None:
    return next(iter(updates(connection, 1)), None)


def update(connection: sqlite3.Connection, id_: str) -> Update | None:
    row = connection.execute("SELECT facts FROM shop_update WHERE id = ?", (id_,)).fetchone()
    return Update.from_dict(json.loads(row[0])) if row else None


def updates_named(connection: sqlite3.Connection, start: str) -> int:
    """How many updates have an identifier that begins with `start`."""
    return int(connection.execute("SELECT count(*) FROM shop_update WHERE substr(id, 1, ?) = ?", (len(start), start)).fetchone()[0])


def watched_updates(connection: sqlite3.Connection, also: Iterable[str]) -> list[Update]:
    """The updates that are still watched, and those in `also`, oldest first."""
    rows = connection.execute(
        "SELECT facts FROM shop_update WHERE status IN (SELECT value FROM json_each(?)) OR id IN (SELECT value FROM json_each(?)) ORDER BY started",
        (json.dumps([s.value for s in LIVE]), json.dumps(list(also))))
    return [Update.from_dict(json.loads(facts)) for (facts,) in rows]


def save_baselines(connection: sqlite3.Connection, update: str, baselines: Iterable[tuple[Target, Mapping[str, Any]]]) -> None:
    """What "before" means for this update: written once, never changed."""
    connection.executemany(
        "INSERT INTO baseline VALUES (?, ?, ?, ?, ?)", [(update, *target, json.dumps(facts)) for target, facts in baselines])


def baselines(connection: sqlite3.Connection, update: str) -> dict[Target, dict[str, Any]]:
    rows = connection.execute("SELECT probe, device, cohort, facts FROM baseline WHERE update_id = ?", (update,))
    return {(probe, device, cohort): json.loads(facts) for probe, device, cohort, facts in rows}
