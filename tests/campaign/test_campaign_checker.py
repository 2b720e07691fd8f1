"""The checker of a campaign can fail: every broken promise is found in a history made by hand, and a good history passes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from campaign_checker import Wrong, check, duplicates, key
from campaign_record import Event, Flip, Life, Receipt, Record, Row, Step

BEGAN, WORSE, OVER = 1000.0, 1004.0, 1010.0


def row(receiver: str, seq: int, kind: str, escalation: int, created: float, **more: Any) -> Row:
    values = {"incident": "one", "attempts": 1, "state": "done"} | more
    return Row(id=f"{receiver}-{values['incident']}-{seq}", receiver=receiver, seq=seq, kind=kind, escalation=escalation, created=created, **values)


def alert(at: float, action: str, escalation: int, incident: str = "one") -> Event:
    return Event(at, action, key(EMPTY, incident, escalation))


def receipt(at: float, seq: int, kind: str, incident: str = "one") -> Receipt:
    return Receipt(at, f"phone-{incident}-{seq}", f"incident.{kind}", incident)


def incident(id_: str = "one", opened: float = BEGAN, resolved: float | None = OVER, **more: Any) -> dict[str, Any]:
    facts = {"id": id_, "kind": "outage", "cause": "errors@a", "opened": opened, "resolved": resolved, "escalation": 1, "told": True,
             "members": [{"probe": "home"}]}
    return facts | more


EMPTY = Record("install", "kettle", {}, (), (), (), (), (), (), {}, {})
GOOD = replace(
    EMPTY,
    incidents={"one": incident()},
    steps=(Step("one", BEGAN, "firing"), Step("one", WORSE, "escalated"), Step("one", OVER, "resolved")),
    outbox=tuple(row(name, *what) for name in ("pager", "phone")
                 for what in ((1, "firing", 0, BEGAN), (2, "firing", 1, WORSE), (3, "resolved", 1, OVER))),
    pager=(alert(1000.1, "trigger", 0), alert(1004.1, "trigger", 1), alert(1004.2, "resolve", 0), alert(1010.1, "resolve", 0),
           alert(1010.2, "resolve", 1)),
    hook=(receipt(1000.1, 1, "firing"), receipt(1004.1, 2, "firing"), receipt(1010.1, 3, "resolved")),
    flips=(Flip("home", BEGAN, "down", BEGAN - 0.2), Flip("home", OVER, "up", OVER - 0.1)),
    lives=(Life(990.0, 1002.0), Life(1002.1, 1020.0, code=0)),
    spells={"home": [(BEGAN - 0.3, OVER - 0.2)]},
    visits={0: 990.2, 1: 1002.3},
)


def without(record: Record, receiver: str, seq: int, state: str = "superseded", attempts: int = 0) -> Record:
    """The message was not sent."""
    outbox = [replace(r, state=state, attempts=attempts) if (r.receiver, r.seq) == (receiver, seq) else r for r in record.outbox]
    return replace(record, outbox=outbox, hook=[r for r in record.hook if r.id != f"{receiver}-one-{seq}"])


def open_twice() -> Record:
    other = incident("two", opened=BEGAN + 2, escalation=0, told=False)
    return replace(GOOD, incidents=GOOD.incidents | {"two": other})


BAD: dict[str, tuple[str, Callable[[], Record]]] = {
    "a worsening without a message": ("lost", lambda: replace(GOOD, outbox=[r for r in GOOD.outbox if (r.receiver, r.seq) != ("pager", 2)])),
    "a worsening taken back for nothing": ("lost", lambda: replace(
        without(GOOD, "phone", 2), outbox=[r for r in without(GOOD, "phone", 2).outbox if (r.receiver, r.seq) != ("phone", 3)],
        hook=GOOD.hook[:1])),
    "a beginning that still waits": ("lost", lambda: without(GOOD, "phone", 1, "queued")),
    "a beginning that was given up": ("lost", lambda: without(GOOD, "phone", 1, "dead")),
    "a step that left no trace": ("lost", lambda: replace(GOOD, steps=GOOD.steps[:1])),
    "an end that was not told": ("lost", lambda: without(GOOD, "phone", 3, "dead")),
    "an end that PagerDuty did not hear": ("lost", lambda: replace(GOOD, pager=GOOD.pager[:2])),
    "done, says the outbox": ("claimed", lambda: replace(GOOD, hook=GOOD.hook[1:])),
    "an end under the name of a beginning": ("claimed", lambda: replace(GOOD, hook=[*GOOD.hook[:2], receipt(1010.1, 3, "firing")])),
    "a trigger after the end": ("zombie", lambda: replace(GOOD, pager=[*GOOD.pager, alert(1010.3, "trigger", 1)])),
    "and so a second alert": ("twice", lambda: replace(GOOD, pager=[*GOOD.pager, alert(1010.3, "trigger", 1), alert(1010.4, "resolve", 1)])),
    "an alert that stays open": ("zombie", lambda: replace(GOOD, pager=GOOD.pager[:4])),
    "an alert that lasts beside the worse one": (
        "zombie", lambda: replace(GOOD, incidents={"one": incident(resolved=None)}, pager=GOOD.pager[:2])),
    "a message with two identifiers": ("twice", lambda: replace(
        GOOD, outbox=[*GOOD.outbox, row("phone", 4, "resolved", 1, OVER)], hook=[*GOOD.hook, receipt(1010.2, 4, "resolved")])),
    "two stories of one cause": ("twice", open_twice),
    "a message again without a kill": ("repeated", lambda: replace(GOOD, hook=[*GOOD.hook, receipt(1010.3, 3, "resolved")])),
    "a message three times around one kill": (
        "repeated", lambda: replace(GOOD, hook=[receipt(1001.0 + n, 1, "firing") for n in range(3)] + list(GOOD.hook[1:]))),
    "a trigger again without a kill": ("repeated", lambda: replace(GOOD, pager=[GOOD.pager[0], alert(1000.4, "trigger", 0), *GOOD.pager[1:]])),
    "the end before the beginning": ("order", lambda: replace(GOOD, hook=[*GOOD.hook[:2], receipt(1003.0, 3, "resolved")])),
    "a message that nobody wrote down": ("uncommitted", lambda: replace(GOOD, hook=[*GOOD.hook, receipt(1001.0, 9, "firing", "ghost")])),
    "an alert that nobody wrote down": ("uncommitted", lambda: replace(GOOD, pager=[*GOOD.pager, alert(1001.0, "trigger", 0, "ghost")])),
    "a message before its commit": ("uncommitted", lambda: replace(GOOD, hook=[receipt(998.0, 1, "firing"), *GOOD.hook[1:]])),
    "an alert before its commit": ("uncommitted", lambda: replace(GOOD, pager=[alert(998.0, "trigger", 0), *GOOD.pager[1:]])),
    "an outage that begins twice": ("reopened", lambda: replace(GOOD, flips=[
        *GOOD.flips[:1], Flip("home", 1003.0, "up", 1003.0), Flip("home", 1003.5, "down", 1003.2), GOOD.flips[1]])),
    "down, and down again": ("reopened", lambda: replace(GOOD, flips=[GOOD.flips[0], Flip("home", 1003.0, "down", 999.8), GOOD.flips[1]])),
    "up while it fails": ("reopened", lambda: replace(GOOD, flips=[GOOD.flips[0], Flip("home", 1005.0, "up", 1005.0)])),
    "an outage without an incident": ("forgotten", lambda: replace(GOOD, flips=[*GOOD.flips, Flip("pay", 1001.0, "down", 1000.5)])),
    "a slow start": ("slow", lambda: replace(GOOD, visits={0: 993.5, 1: 1002.3})),
    "a life without a visit": ("slow", lambda: replace(GOOD, visits={1: 1002.3})),
    "a life that ended by itself": ("lost", lambda: replace(GOOD, lives=[Life(990.0, 1002.0, code=70), GOOD.lives[1]])),
    "a damaged database": ("lost", lambda: replace(GOOD, integrity="row 7 missing from index")),
}


def test_a_good_history_passes() -> None:
    assert check(GOOD) == []


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_found(name: str) -> None:
    promise, make = BAD[name]
    assert promise in {wrong.promise for wrong in check(make())}


def test_once_more_after_a_kill_is_no_fault() -> None:
    again = replace(GOOD, hook=[GOOD.hook[0], receipt(1002.5, 1, "firing"), *GOOD.hook[1:]],
                    pager=[GOOD.pager[0], alert(1002.5, "trigger", 0), *GOOD.pager[1:]])
    assert check(again) == []
    assert duplicates(again) == {"pager": [1], "phone": [1]}


def test_what_the_machine_withheld_from_a_life_is_none_of_its_doing() -> None:
    slow = replace(GOOD, visits={0: 993.5, 1: 1002.3}, lives=[replace(GOOD.lives[0], withheld=1.0), GOOD.lives[1]])
    assert check(slow) == []
    late = replace(GOOD, flips=[GOOD.flips[0], replace(GOOD.flips[0], at=1000.5, new="up"), replace(GOOD.flips[0], at=1001.0), GOOD.flips[1]],
                   spells={"home": [(999.8, OVER - 0.2)]})
    assert {wrong.what.split(" ", 1)[1][:9] for wrong in check(late)} == {"was said ", "went down"}
    late = replace(late, lives=[replace(GOOD.lives[0], withheld=1.0), GOOD.lives[1]])
    assert {wrong.what.split(" ", 1)[1][:9] for wrong in check(late)} == {"went down"}


def test_what_its_end_or_something_worse_replaced_is_not_lost() -> None:
    """By the rules of docs/alerts.md: the lesser state need not be told, and PagerDuty hears nothing of what was over before it was sent."""
    worse = replace(without(GOOD, "phone", 1), pager=GOOD.pager)
    assert check(worse) == []
    over = replace(GOOD, outbox=[replace(r, state="superseded", attempts=0) if r.kind == "firing" else r for r in GOOD.outbox
                                 if (r.receiver, r.kind) != ("pager", "resolved")], pager=(), hook=GOOD.hook[2:])
    assert check(over) == []


def test_an_end_that_was_told_to_nobody_is_lost_also_when_the_beginning_came_too_late() -> None:
    never = replace(GOOD, outbox=[replace(r, state="superseded", attempts=0) for r in GOOD.outbox if r.kind == "firing"], pager=(), hook=())
    assert check(never) == [Wrong("lost", "one: phone never took escalation 1 (superseded, 0 attempts)")]
