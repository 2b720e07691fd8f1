"""PagerDuty: what its people see after every way in which a story can be told, held against the rules of its API."""

import asyncio
import hashlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from desk import FACTS, make_incident, make_member, make_message, serving, settings, teller
from fake_pagerduty import KEY, PagerDuty
from fakes import Fault
from stands import notice, step, steps

from monitor.alerts.delivery import Delivered, DeliveryError, Message, Told
from monitor.alerts.dispatch import Dispatch, attempt
from monitor.alerts.pagerduty import EVENT_LIMIT, dedup_key, events
from monitor.alerts.post import open_session
from monitor.clock import ManualClock
from monitor.store import Store


@pytest.fixture
async def pd() -> AsyncIterator[PagerDuty]:
    async with serving(PagerDuty()) as service:  # type: ignore[type-var]
        yield service


def own(pd: PagerDuty, **values: Any) -> Any:
    return settings("pagerduty", **{"routing_key": KEY, "url": pd.url} | values)


async def tell(pd: PagerDuty, message: Message, **values: Any) -> Delivered | DeliveryError:
    async with open_session() as session:
        return await attempt(own(pd, **values), session, message)


def states(pd: PagerDuty) -> list[tuple[str, str]]:
    return [(alert.dedup_key, alert.status) for alert in pd.alerts]


def test_the_name_of_an_alert_is_for_ever() -> None:
    message = step("firing", make_incident(escalation=2), time.time())
    wanted = hashlib.sha256(b"01install\x00example-shop\x0001incident\x002").hexdigest()
    assert dedup_key(message.page, message.opened) == wanted
    assert len(wanted) == 64
    elsewhere = replace(message.page, install="02install")
    assert dedup_key(elsewhere, message.opened) != wanted


async def test_a_life_is_two_alerts_of_which_none_stays_open(pd: PagerDuty) -> None:
    life = steps(time.time())
    first, second = (dedup_key(life[name].page, life[name].opened) for name in ("firing", "worse"))
    seen = []
    for message in life.values():
        assert isinstance(await tell(pd, message), Delivered)
        seen.append(states(pd))
    assert seen == [
        [(first, "triggered")],
        [(first, "triggered")],  # a reminder is a line in its log
        [(first, "acknowledged")],
        [(first, "resolved"), (second, "triggered")],
        [(first, "resolved"), (second, "resolved")],
    ]
    assert pd.effects() == ["opened", "logged", "acknowledged", "opened", "resolved", "dropped", "resolved"]


async def test_a_trigger_whose_answer_was_lost_opens_one_alert_that_ends(pd: PagerDuty) -> None:
    life = steps(time.time())
    pd.faults.append(Fault(503, taken=True, times=2))
    assert isinstance(await tell(pd, life["firing"]), DeliveryError)
    assert isinstance(await tell(pd, life["firing"]), DeliveryError)
    assert isinstance(await tell(pd, life["firing"]), Delivered)
    assert [(alert.status, alert.triggers) for alert in pd.alerts] == [("triggered", 3)]
    await tell(pd, life["resolved"])
    assert pd.open() == []


async def test_what_has_got_through_is_not_sent_again_for_the_sake_of_the_rest(pd: PagerDuty) -> None:
    """Getting worse is two events. When the second fails, a repeated first could open what a person has ended by then."""
    life = steps(time.time())
    await tell(pd, life["firing"])
    pd.faults += [Fault(202, taken=True), Fault(500)]
    result = await tell(pd, life["worse"])
    assert isinstance(result, DeliveryError)
    assert result.settled == ("trigger 1",)
    assert [alert.status for alert in pd.alerts] == ["triggered", "triggered"]  # never is there none
    pd.alerts[1].status, pd.alerts[1].ended = "resolved", time.time()  # by hand
    assert isinstance(await tell(pd, replace(life["worse"], settled=result.settled)), Delivered)
    assert len(pd.alerts) == 2
    assert pd.open() == []


async def test_all_that_was_told_ends_whatever_was_lost_before(pd: PagerDuty) -> None:
    life = steps(time.time())
    await tell(pd, life["firing"])
    pd.faults += [Fault(202, taken=True), Fault(500)]
    await tell(pd, life["worse"])  # and nobody tries it again: it is over
    await tell(pd, life["resolved"])
    assert [alert.status for alert in pd.alerts] == ["resolved", "resolved"]


async def test_news_is_a_change_event_with_its_links(pd: PagerDuty) -> None:
    message = notice(time.time())
    message = replace(message, page=replace(message.page, update_link="https://till.example/updates/1", runbook="ask Ada"))
    assert isinstance(await tell(pd, message), Delivered)
    assert pd.alerts == []
    (change,) = pd.changes
    assert "Update 8.4.1 has started" in change["summary"]
    assert change["source"] == "shop.example"
    assert {"href": "https://till.example/updates/1", "text": "Update"} in change["links"]
    assert "ask Ada" not in json.dumps(change["links"])  # no address, no link


async def test_an_alert_says_what_the_page_says(pd: PagerDuty) -> None:
    await tell(pd, step("firing", make_incident(), time.time()))
    (entry,) = pd.history
    payload = entry["payload"]
    assert payload["summary"].startswith("[page] example-shop: Customers cannot use *pay* since")
    assert (payload["severity"], payload["source"], payload["group"], payload["class"]) == ("critical", "shop.example", "example-shop", "outage")
    assert "refused the connection" in payload["custom_details"]["evidence"][0]
    assert entry["links"] == [
        {"href": "https://till.example/incidents/01incident", "text": "Details"},
        {"href": "https://wiki.example/pay", "text": "Runbook"},
    ]


@pytest.mark.parametrize(("urgency", "severity"), [("page", "critical"), ("ticket", "warning")])
async def test_urgency_is_severity(pd: PagerDuty, urgency: str, severity: str) -> None:
    await tell(pd, make_message(make_incident(urgency=urgency)))
    assert pd.alerts[0].severity == severity


async def test_details_go_before_the_summary_does(pd: PagerDuty) -> None:
    message = make_message(make_incident(members=tuple(make_member(f"p{n}") for n in range(20))))
    members = tuple(dict(m) | {"evidence": "\N{PILE OF POO}" * 50_000} for m in message.page.members)
    assert isinstance(await tell(pd, replace(message, page=replace(message.page, members=members))), Delivered)
    (entry,) = pd.history
    details = entry["payload"]["custom_details"]
    assert entry["bytes"] <= EVENT_LIMIT
    assert "members" not in details
    assert details["shortened"] is True
    assert details["evidence"]
    assert entry["payload"]["summary"].startswith("[page] example-shop: Customers cannot use")


async def test_the_least_has_no_details(pd: PagerDuty) -> None:
    await tell(pd, make_message(minimal=True))
    assert pd.history[0]["bytes"] < 1_000
    assert "custom_details" not in pd.history[0]["payload"]
    assert len(pd.open()) == 1


async def test_a_wrong_key_is_refused_without_being_told(pd: PagerDuty) -> None:
    result = await tell(pd, make_message(), routing_key="no-integration-key")
    assert isinstance(result, DeliveryError)
    assert (result.permanent, result.code) == (True, "400")
    assert "should be 32 characters" in result.reason
    assert "no-integration-key" not in result.reason


async def test_more_than_it_takes_in_a_minute_waits(pd: PagerDuty) -> None:
    results = [await tell(pd, step("firing", make_incident(f"01i{n}"), time.time())) for n in range(125)]
    late = [result for result in results if isinstance(result, DeliveryError)]
    assert len(pd.alerts) == 120
    assert {(result.permanent, result.code, result.retry_after) for result in late} == {(False, "429", 30.0)}
    pd.faults.append(Fault(429, {"Retry-After": "90"}))
    assert getattr(await tell(pd, make_message()), "retry_after", None) == 90.0


def test_an_end_that_nobody_heard_the_beginning_of_ends_just_that() -> None:
    over = step("resolved", make_incident(resolved=time.time()), time.time())
    assert [name for name, _, _ in events(over)] == ["resolve 0"]


def test_what_follows_an_escalation_is_about_that_escalation() -> None:
    now = time.time()
    incident = make_incident()
    worse = replace(incident, escalation=1)
    told = Told(incident, now - 60), Told(worse, now)
    for what, name in (("reminder", "trigger 1"), ("acknowledged", "acknowledge 1")):
        assert [name for name, _, _ in events(step(what, worse, now, *told))] == [name]
    # Said again without having got worse, it must not end itself.
    assert [name for name, _, _ in events(step("firing", worse, now, *told))] == ["trigger 1", "resolve 0"]


async def test_from_the_outbox_a_lost_answer_an_escalation_and_the_end_leave_nothing_open(pd: PagerDuty, store: Store, clock: ManualClock) -> None:
    receiver = own(pd, name="pd")
    say = teller(store, clock, [receiver])
    incident = make_incident()
    pd.faults += [Fault(0, taken=True), Fault(503)]
    facts = replace(FACTS, install="01install")
    async with Dispatch(store, [receiver], clock, lambda _incident: facts) as desk:
        await say("firing", incident)
        for _ in range(3):
            await desk.settled()
            clock.at += 70
        assert [(a.status, a.triggers) for a in pd.alerts] == [("triggered", 2)]
        pd.faults += [Fault(202, taken=True), Fault(500)]
        await say("escalated", replace(incident, escalation=1))
        await desk.settled()
        assert len(pd.open()) == 2
        clock.at += 70
        await desk.settled()
        assert [a.status for a in pd.alerts] == ["resolved", "triggered"]
        await say("resolved", replace(incident, escalation=1, resolved=clock.at, resolution="recovered"))
        await desk.settled()
    assert pd.open() == []
    assert [(a.status, a.triggers) for a in pd.alerts] == [("resolved", 2), ("resolved", 1)]


async def test_what_was_over_before_it_could_be_told_wakes_nobody(pd: PagerDuty, store: Store, clock: ManualClock) -> None:
    receiver = own(pd, name="pd")
    say = teller(store, clock, [receiver])
    pd.faults.append(Fault(503, times=100))
    async with Dispatch(store, [receiver], clock, lambda _incident: FACTS) as desk:
        await say("firing", make_incident())
        await desk.settled()
        pd.faults.clear()
        await say("resolved", make_incident(resolved=clock.at, resolution="recovered"))
        await desk.settled()
    assert pd.alerts == []
    assert pd.effects() == ["fault", "dropped"]


async def test_the_fake_is_a_process_of_its_own_too() -> None:
    program = Path(__file__).with_name("fake_pagerduty.py")
    process = await asyncio.create_subprocess_exec(sys.executable, str(program), stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout
        url = f"http://127.0.0.1:{json.loads(await process.stdout.readline())['port']}"
        async with aiohttp.ClientSession() as client, open_session() as session:
            receiver: Any = settings("pagerduty", routing_key=KEY, url=url)
            async with client.post(f"{url}/faults", json={"status": 503, "taken": True}) as answer:
                assert answer.status == 204
            incident = make_incident()
            assert isinstance(await attempt(receiver, session, step("firing", incident, time.time())), DeliveryError)
            end = step("resolved", replace(incident, resolved=time.time()), time.time(), Told(incident, time.time()))
            assert isinstance(await attempt(receiver, session, end), Delivered)
            async with client.get(f"{url}/history") as answer:
                history = await answer.json()
        assert (history["open"], [alert["status"] for alert in history["alerts"]]) == (0, ["resolved"])
        assert [entry["effect"] for entry in history["requests"]] == ["opened", "resolved"]
    finally:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
