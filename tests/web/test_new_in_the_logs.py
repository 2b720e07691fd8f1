"""What was never logged before an update is shown with it: in the API, on its page, in its report."""

from typing import Any

import pytest
from exhibits import keep, log, update
from shopfront import Front

from monitor.updates import Changed, Status

KEY = "error:KeyError at payment_gateway.py _reference [payment_gateway]"
SLOW, FULL = "warning:slow query [search]", "critical:disk full"
HOUR = 3600.0


async def logged(shop: Front) -> float:
    """An update half an hour ago, errors from before it, of it, and of the one before."""
    now = shop.clock.now()
    await keep(shop, update(now - 6 * HOUR, id="older", status=Status.CLOSED, finished=now - 6 * HOUR, closed=now - 5 * HOUR, verdict="pass",
                            changes=(Changed("search"),)))
    await keep(shop, update(now, id="newer", status=Status.OPEN))
    await log(shop, now - 9 * HOUR, "error:ancient")
    await log(shop, now - 3 * HOUR, SLOW, 7)
    await log(shop, now - 1500, FULL)
    await log(shop, now - 1400, KEY, 5, "KeyError: 'reference' in order [order]")
    await log(shop, now - 1300, KEY, 7)
    return now


async def asked(shop: Front, query: str = "") -> list[dict[str, Any]]:
    status, body, _ = await shop.ask(f"/api/v1/signatures{query}")
    assert status == 200, body
    return list(body["signatures"])


async def test_every_signature_is_told_with_the_update_that_it_came_with(shop: Front) -> None:
    now = await logged(shop)
    found = await asked(shop)
    assert [(s["name"], s["update"], s["changed"]) for s in found] == [
        (KEY, "newer", "payment-gateway"), (FULL, "newer", ""), (SLOW, "older", "search"), ("error:ancient", "", "")]
    assert found[0] == {
        "probe": "app", "name": KEY, "level": "error", "text": "KeyError at payment_gateway.py _reference [payment_gateway]", "first": now - 1400,
        "last": now - 1300, "events": 12, "example": "KeyError: 'reference' in order [order]", "update": "newer", "changed": "payment-gateway"}


async def test_they_can_be_asked_for_by_probe_time_update_and_number(shop: Front) -> None:
    now = await logged(shop)
    await log(shop, now - 10, "error:elsewhere", probe="worker")

    async def names(query: str) -> list[str]:
        return [s["name"] for s in await asked(shop, query)]
    assert await names("?probe=worker") == ["error:elsewhere"]
    assert await names(f"?probe=app&since={now - 1450}") == [KEY]
    assert await names(f"?since={now - 1450.5}&limit=1") == ["error:elsewhere"]
    assert await names("?update=older") == [SLOW]
    assert await names("?update=newest") == [KEY, FULL, "error:elsewhere"], "what tells most first: a changed part, then the level"
    assert await names(f"?update=newer&probe=app&since={now - 1450}&limit=1") == [KEY]
    assert await names("?probe=nobody") == []


@pytest.mark.parametrize(("query", "status"), [
    ("?since=yesterday", 400), ("?since=-1", 400), ("?since=nan", 400), ("?since=1e9", 400), ("?since=", 400), ("?since=" + "9" * 5000, 400),
    ("?limit=0", 400), ("?limit=5001", 400), ("?update=nobody", 404)])
async def test_what_cannot_be_asked_for_is_refused(shop: Front, query: str, status: int) -> None:
    assert (await shop.ask(f"/api/v1/signatures{query}"))[0] == status


async def test_an_update_that_did_not_take_place_has_none_and_takes_none_away(shop: Front) -> None:
    now = await logged(shop)
    await keep(shop, update(now + 300, id="cancelled", status=Status.CANCELLED))
    assert [s["name"] for s in await asked(shop, "?update=newer")] == [KEY, FULL]
    assert await asked(shop, "?update=cancelled") == []


async def test_after_its_week_nothing_belongs_to_an_update(shop: Front) -> None:
    now = shop.clock.now()
    await keep(shop, update(now, id="old", status=Status.CLOSED, finished=now, closed=now, verdict="pass"))
    await log(shop, now + 7 * 86400 - 1, "error:late")
    await log(shop, now + 7 * 86400 + 1, "error:too late")
    assert [s["name"] for s in await asked(shop, "?update=old")] == ["error:late"]
    assert {s["name"]: s["update"] for s in await asked(shop)} == {"error:late": "old", "error:too late": ""}


@pytest.mark.parametrize("path", ["/updates/newer", "/api/v1/updates/newer/report", "/api/v1/updates/newer/report?format=md"])
async def test_page_and_report_have_them(shop: Front, path: str) -> None:
    await logged(shop)
    page = (await shop.ask(path))[1].replace("\\", "")
    assert "New since the update" in page
    assert page.index("KeyError at payment_gateway.py _reference [payment_gateway]") < page.index("disk full")
    for part in ("in order [order]", "12", "which this update changed"):
        assert part in page
    assert "slow query" not in page


@pytest.mark.parametrize("path", ["/updates/newer", "/api/v1/updates/newer/report", "/api/v1/updates/newer/report?format=md"])
async def test_where_nothing_is_new_nothing_is_said_of_it(shop: Front, path: str) -> None:
    await keep(shop, update(shop.clock.now(), id="newer"))
    page = (await shop.ask(path))[1]
    assert "New since the update" not in page


async def test_of_very_many_the_page_shows_some(shop: Front) -> None:
    now = shop.clock.now()
    await keep(shop, update(now, id="newer"))
    for number in range(60):
        await log(shop, now - 60 + number, f"error:number {number}")
    assert "And 40 more." in (await shop.ask("/updates/newer"))[1]
    assert "And 10 more." in (await shop.ask("/api/v1/updates/newer/report"))[1]
    assert len(await asked(shop, "?update=newer")) == 60
