"""An update whose log has an error that was never there: found, named, and told to lie in the part that the update changed."""

from dataclasses import dataclass
from typing import Any

import pytest
from stage import WIDE, Actor, Make, Stage

from monitor.alerts.page import Delivery, Facts, Page, ShopFacts, compose
from monitor.before import Judged
from monitor.judge.signals import Margin, Subject
from monitor.store import signatures
from probes.sample import Signal

KEY = "error:KeyError at payment_gateway.py _reference [payment_gateway]"
USUAL = {"lines": 40, "signature/warning:slow query [search]": 2}
CHANGES = [{"name": "payment-gateway", "version": "3"}]


@dataclass(frozen=True)
class Log(Actor):
    """A probe that follows a log, and is judged by what is new in it."""

    def judged(self) -> Judged:
        signals = Signal("success", "bernoulli"), Signal("new errors", "novelty", "signature/", family="log")
        subject = Subject(self.name, "", "", "error_log", self.critical, self.control, Margin(**WIDE), signals)
        return Judged(subject, self.interval, self.fast, self.urgency)


@pytest.fixture
async def shop(make: Make) -> Stage:
    stage = await make(past=0, actors=(Log("app"), Actor("pay")))
    await stage.past(counts=USUAL)
    return stage


async def told(stage: Stage) -> Page:
    (incident,) = await stage.incidents()
    return compose(incident, Facts(ShopFacts("till", ""), update=await stage.newest()), Delivery(), stage.clock.at)


async def test_a_new_error_that_stays_is_a_regression_and_names_the_part_that_was_changed(shop: Stage) -> None:
    await shop.start(changes=CHANGES)
    await shop.live(6, counts=USUAL)
    await shop.until("regression", counts=USUAL | {f"signature/{KEY}": 3})
    update = await shop.newest()
    assert update.ruling["reason"] == "new_errors"
    page = await told(shop)
    assert "“KeyError at payment_gateway.py _reference [payment_gateway]”" in page.sentence
    assert page.evidence[0].startswith("new since the update: KeyError at payment_gateway.py _reference [payment_gateway], ")
    assert page.culprit.endswith("; the new error lies in payment-gateway, which this update changed")
    new = await shop.store.read(lambda c: signatures.told_of(c, update, None))
    assert [(one["probe"], one["name"], one["changed"]) for one in new if one["probe"] == "app"] == [("app", KEY, "payment-gateway")]


async def test_what_fails_is_told_with_the_new_error_beside_it(shop: Stage) -> None:
    await shop.start(changes=CHANGES)
    await shop.live(6, counts=USUAL)
    await shop.live(1, counts=USUAL | {f"signature/{KEY}": 3})
    await shop.until("regression", failing=("pay",), counts=USUAL)
    rows: list[dict[str, Any]] = [s for s in (await shop.newest()).ruling["signals"] if s["test"] == "novelty" and s["probe"] == "app"]
    assert [(row["guilty"], row["news"]) for row in rows] == [(False, [[f"changed:{KEY}", 3.0]])]
    page = await told(shop)
    assert page.evidence[0].startswith("*pay* failed ")
    assert page.evidence[1] == "new since the update: KeyError at payment_gateway.py _reference [payment_gateway], 3 times"
    assert page.culprit.endswith("lies in payment-gateway, which this update changed")


async def test_what_was_always_logged_of_a_changed_part_is_not_new(shop: Stage) -> None:
    """Past and watch mark it alike, also when the watch was interrupted."""
    await shop.start(changes=[{"name": "search"}])
    await shop.live(6, counts=USUAL)
    await shop.restart()
    await shop.live(20, counts=USUAL)
    rows = [s for s in shop.watch.facts(await shop.newest())["signals"] if s["test"] == "novelty"]
    assert [(row["news"], row["after"]) for row in rows] == [((), 0.0)]


async def test_a_new_warning_weighs_more_in_a_part_that_was_changed(shop: Stage) -> None:
    weighs = []
    for changes in ([], [{"name": "cart"}]):
        await shop.start(changes=changes)
        await shop.live(6, counts=USUAL)
        await shop.live(4, counts=USUAL | {f"signature/warning:odd {len(changes)} [cart]": 3})
        weighs += [s["evidence"] for s in shop.watch.facts(await shop.newest())["signals"] if s["test"] == "novelty"]
        await shop.act("cancel")
        await shop.past(counts=USUAL)
    assert weighs[1] > weighs[0] + 0.3, weighs
