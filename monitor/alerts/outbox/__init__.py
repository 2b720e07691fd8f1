"""Messages kept until their receiver has them. Each function runs inside a transaction of the store.

A row is written in the transaction of the incident that it tells, and holds facts, not words. Its life:

    queued ──claim──> inflight ──settle──> done | dead | queued again
       ├── superseded: something newer says more, or it is over and nobody heard of it
       └── parked: its receiver is not configured now; queued again when it is

Per receiver and incident the rows go out one after the other (the end never overtakes the beginning); across receivers
and incidents they do not wait for each other.
"""

from monitor.alerts.outbox.rows import Parcel, Row
from monitor.alerts.outbox.sending import RETRY_AFTER_CAP, Result, again, claim, due, next_due, requeue, retry_now, settle, to_repeat, wait_before
from monitor.alerts.outbox.telling import BITE, catch_up, enqueue, notify, remind, stand_in
from monitor.alerts.outbox.upkeep import AILING_AFTER, Ailing, ailing, drop_old, history, last_success, waiting

__all__ = [
    "AILING_AFTER", "BITE", "RETRY_AFTER_CAP", "Ailing", "Parcel", "Result", "Row", "again", "ailing", "catch_up", "claim", "drop_old", "due",
    "enqueue", "history", "last_success", "next_due", "notify", "remind", "requeue", "retry_now", "settle", "stand_in", "to_repeat",
    "wait_before", "waiting",
]
