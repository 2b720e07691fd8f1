"""Simulated shops under the shipped defaults: quiet ones stay quiet, one bad page is found among many (bench/judge/shops.py measures more)."""

from statistics import median

import pytest

from bench.judge.shops import crowd, raced
from bench.judge.simulated import BURST_EVERY, Shop, Weather, target, updated, usual_shop

UPDATES = 8
WATCHED = 1800.0             # s after finish


@pytest.mark.parametrize("weather", [Weather(60.0), Weather(300.0), Weather(60.0, "40 s"), Weather(300.0, "40 s")], ids=str)
def test_a_shop_that_did_not_change_is_not_called_worse(weather):
    shops = [Shop(usual_shop(), weather, seed) for seed in range(UPDATES)]
    false = [end for shop in shops if (end := updated(shop, power=False, observe=WATCHED)).verdict == "regression"]
    assert len(false) <= 1, [end.cause for end in false]


@pytest.mark.parametrize("harm", ["x1.5", "fail 20 %", "outage"])
def test_one_bad_page_among_twenty_is_found_nearly_as_soon_as_alone(harm):
    alone, among = zip(*(raced(seed, harm, 2, 0, Weather(0.0)) for seed in range(3)), strict=True)
    assert median(among) <= max(1.5 * median(alone), median(alone) + 2)      # an outage: two runs alone, four among twenty


def test_a_hundred_pages_that_did_not_change_are_not_called_worse():
    assert crowd(1, Weather(60.0), 120.0).verdict == "inconclusive"


def test_a_good_update_passes_soon_when_checkouts_run_often_enough():
    shop = Shop(usual_shop(interval=60.0), Weather(0.0, sigma=0.15), 1)
    end = updated(shop)
    assert (end.verdict, end.after_finish <= 2700.0) == ("pass", True)


# The simulation itself


def test_the_past_is_frozen_from_bursts_when_there_are_enough_of_them():
    page = target("page")
    assert Shop([page], Weather(), 1).frozen(page, power=False).spacing == 10.0
    assert Shop([page], Weather(), 1, age=2 * BURST_EVERY).frozen(page, power=False).spacing == 30.0


def test_what_lasts_forty_seconds_fails_four_runs_in_a_row_at_ten_seconds():
    page = target("page")
    shop = Shop([page], Weather(0.0, "40 s"), 3)
    baseline = shop.frozen(page, power=False)
    failed = "".join("x" if not run.ok else "." for _, run in shop.after([baseline], shop.start, shop.start + 20_000.0))
    assert failed.count(".xxxx.") == failed.count(".x") > 0


def test_the_same_seed_gives_the_same_update():
    ends = {updated(Shop(usual_shop(), Weather(60.0, "1 %"), 5), power=False, observe=300.0) for _ in range(2)}
    assert len(ends) == 1
