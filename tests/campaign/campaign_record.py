"""What is known of a campaign when it is over, from those who saw it: the database, the receivers, the shop, and whoever did the killing."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shop_script import Spell


@dataclass(frozen=True, slots=True)
class Life:
    """From its beginning to the signal that ended it, Unix s, and what the machine withheld from it, s. `code`: -9 for one killed as planned."""

    begun: float
    ended: float
    code: int = -9
    real: bool = False
    withheld: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    incident: str
    at: float
    what: str


@dataclass(frozen=True, slots=True)
class Row:
    """A message in the outbox."""

    id: str
    receiver: str
    incident: str
    seq: int
    kind: str
    escalation: int
    created: float
    attempts: int
    state: str


@dataclass(frozen=True, slots=True)
class Flip:
    probe: str
    at: float
    new: str
    since: float


@dataclass(frozen=True, slots=True)
class Event:
    """What PagerDuty took, in its order: trigger, acknowledge or resolve. `at` is when it arrived."""

    at: float
    action: str
    key: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the webhook took. `at` is when it arrived."""

    at: float
    id: str
    type: str
    incident: str


@dataclass(frozen=True)
class Record:
    """`incidents` are their facts as they are stored, by id. Spells of failing are Unix s, `visits` the first of each life (by its number)."""

    install: str
    shop: str
    incidents: Mapping[str, Mapping[str, Any]]
    steps: Sequence[Step]
    outbox: Sequence[Row]
    flips: Sequence[Flip]
    pager: Sequence[Event]
    hook: Sequence[Receipt]
    lives: Sequence[Life]
    spells: Mapping[str, Sequence[Spell]]
    visits: Mapping[int, float]
    integrity: str = "ok"


def recorded(database: Path, shop: str, pager: Mapping[str, Any], hook: Sequence[Mapping[str, Any]], shop_history: Mapping[str, Any],
             lives: Sequence[Life]) -> Record:
    """All of it read; the daemon has stopped."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        def rows(query: str) -> list[Any]:
            return connection.execute(query).fetchall()

        opened = shop_history["opened"]
        return Record(
            install=rows("SELECT value FROM meta WHERE name = 'install_id'")[0][0],
            shop=shop,
            incidents={id_: json.loads(facts) for id_, facts in rows("SELECT id, facts FROM incident ORDER BY opened")},
            steps=[Step(*row) for row in rows("SELECT incident, at, what FROM incident_step ORDER BY id")],
            outbox=[Row(*row) for row in rows(
                "SELECT id, receiver, incident, seq, kind, escalation, created, attempts, state FROM outbox ORDER BY receiver, incident, seq")],
            flips=[Flip(*row) for row in rows("SELECT probe, at, new, since FROM flip WHERE old <> new ORDER BY id")],
            pager=[Event(e["at"], e["event_action"], e["dedup_key"]) for e in pager["requests"] if e["status"] == 202 and "event_action" in e],
            hook=[Receipt(**entry) for entry in hook],
            lives=lives,
            spells={probe: [(opened + a, opened + b) for a, b in spells] for probe, spells in shop_history["spells"].items()},
            visits={int(number): at for number, at in shop_history["visits"].items()},
            integrity=rows("PRAGMA integrity_check")[0][0],
        )
    finally:
        connection.close()
