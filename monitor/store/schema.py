"""The schema in numbered steps. A step that has been released is never edited: the next change is a new step."""

import sqlite3

STEPS = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

    -- Interned parts of a sample, so that a row stays small (docs/design.md has the bytes).
    CREATE TABLE series (
        id INTEGER PRIMARY KEY, probe TEXT NOT NULL, device TEXT NOT NULL, cohort TEXT NOT NULL,
        spacing REAL NOT NULL, names TEXT NOT NULL, UNIQUE (probe, device, cohort, spacing, names));
    CREATE TABLE reason (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);

    -- Append-only, in time order, without a secondary index: an index by probe would touch a page per probe and commit.
    CREATE TABLE sample (
        id INTEGER PRIMARY KEY, series INTEGER NOT NULL, started INTEGER NOT NULL, seconds INTEGER NOT NULL,
        code INTEGER NOT NULL, amounts BLOB, extra TEXT);
    CREATE TABLE checkpoint (
        probe TEXT NOT NULL, device TEXT NOT NULL, cohort TEXT NOT NULL, state BLOB NOT NULL,
        PRIMARY KEY (probe, device, cohort)) WITHOUT ROWID;
    CREATE TABLE health (
        probe TEXT NOT NULL, device TEXT NOT NULL, cohort TEXT NOT NULL, state TEXT NOT NULL,
        PRIMARY KEY (probe, device, cohort)) WITHOUT ROWID;

    CREATE TABLE flip (
        id INTEGER PRIMARY KEY, probe TEXT NOT NULL, device TEXT NOT NULL, cohort TEXT NOT NULL, at REAL NOT NULL,
        old TEXT NOT NULL, new TEXT NOT NULL, reason TEXT NOT NULL, since REAL NOT NULL, evidence TEXT NOT NULL);
    CREATE TABLE incident (
        id TEXT PRIMARY KEY, kind TEXT NOT NULL, opened REAL NOT NULL, resolved REAL, update_id TEXT NOT NULL,
        facts TEXT NOT NULL) WITHOUT ROWID;
    CREATE INDEX incident_open ON incident (opened) WHERE resolved IS NULL;
    CREATE TABLE incident_step (
        id INTEGER PRIMARY KEY, incident TEXT NOT NULL, at REAL NOT NULL, what TEXT NOT NULL, by TEXT NOT NULL, detail TEXT NOT NULL);

    CREATE TABLE shop_update (id TEXT PRIMARY KEY, started REAL NOT NULL, status TEXT NOT NULL, facts TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE update_act (
        id INTEGER PRIMARY KEY, update_id TEXT NOT NULL, at REAL NOT NULL, by TEXT NOT NULL, act TEXT NOT NULL, detail TEXT NOT NULL);
    CREATE TABLE baseline (
        update_id TEXT NOT NULL, probe TEXT NOT NULL, device TEXT NOT NULL, cohort TEXT NOT NULL, facts TEXT NOT NULL,
        PRIMARY KEY (update_id, probe, device, cohort)) WITHOUT ROWID;

    CREATE TABLE outbox (
        id TEXT PRIMARY KEY, receiver TEXT NOT NULL, incident TEXT NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL,
        escalation INTEGER NOT NULL, data TEXT NOT NULL, created REAL NOT NULL, not_before REAL NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0, lease TEXT NOT NULL DEFAULT '', state TEXT NOT NULL DEFAULT 'queued',
        last_code TEXT NOT NULL DEFAULT '', last_error TEXT NOT NULL DEFAULT '', minimal INTEGER NOT NULL DEFAULT 0,
        settled TEXT NOT NULL DEFAULT '[]', first_attempt REAL, done REAL, expires REAL,
        UNIQUE (receiver, incident, seq, kind)) WITHOUT ROWID;
    CREATE INDEX outbox_incident ON outbox (incident);
    CREATE INDEX outbox_due ON outbox (receiver, not_before) WHERE state = 'queued';
    CREATE INDEX outbox_pending ON outbox (receiver, incident, seq) WHERE state IN ('queued', 'inflight');
    """,
    """
    -- Paging held back for some probes, for a while. `probes` is a JSON list of names.
    CREATE TABLE silence (
        id TEXT PRIMARY KEY, probes TEXT NOT NULL, starts REAL NOT NULL, ends REAL NOT NULL, reason TEXT NOT NULL, by TEXT NOT NULL,
        ended REAL, ended_by TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
    -- The receiver in whose place a message is sent, because it could not be reached.
    ALTER TABLE outbox ADD COLUMN instead_of TEXT NOT NULL DEFAULT '';
    """,
    """
    -- What counts are called; a sample holds the numbers behind its phases. `used` is the newest day (since 1970) of a sample that has it.
    CREATE TABLE count_name (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE, used INTEGER NOT NULL);
    -- Every error that was ever logged, by its signature: first and last seen (Unix s), how often, and how the first one read.
    CREATE TABLE signature (
        probe TEXT NOT NULL, name TEXT NOT NULL, first REAL NOT NULL, last REAL NOT NULL, events INTEGER NOT NULL, example TEXT NOT NULL,
        PRIMARY KEY (probe, name)) WITHOUT ROWID;
    """,
    """
    -- When a run of a checkout placed an order, or was about to (Unix s): recorded before the click.
    CREATE TABLE submission (
        probe TEXT NOT NULL, device TEXT NOT NULL, cohort TEXT NOT NULL, run TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (probe, device, cohort, run)) WITHOUT ROWID;
    """,
)


class NewerSchemaError(Exception):
    """The file was written by a newer Tillwatch: it is left alone."""


def check(connection: sqlite3.Connection) -> int:
    """The schema's number. Raises NewerSchemaError, before anything is changed, when it is not ours to read."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(STEPS):
        raise NewerSchemaError(f"the store has schema {version}, this version of Tillwatch knows up to {len(STEPS)}")
    return version


def migrate(connection: sqlite3.Connection) -> None:
    """Take the file to the newest step, each step in a transaction of its own."""
    version = check(connection)
    for number, step in enumerate(STEPS[version:], version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {step} PRAGMA user_version = {number}; COMMIT;")
