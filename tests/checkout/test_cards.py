"""Cards: what is published for tests may be used, everything that could be somebody's is refused, and none is ever shown whole."""

import time

import pytest

from probes.checkout.cards import TEST_CARDS, refused_in
from probes.scrub import card_numbers

# Right check digits, made up: no test card of anybody.
REAL = {"visa": "4539578763621486", "mastercard": "5412751234123452", "amex": "374245455400126", "discover": "6011500080009080",
        "maestro": "6762195515061813"}


def test_every_published_number_is_a_number_of_a_card() -> None:
    assert {number: card_numbers(number) for number in TEST_CARDS} == {number: [number] for number in TEST_CARDS}
    assert len(TEST_CARDS) > 300
    assert not TEST_CARDS & set(REAL.values())


@pytest.mark.parametrize("number", ["4242424242424242", "4111 1111 1111 1111", "5555-5555-5555-4444", "3782 822463 10005", "4007000000027",
                                    "card=4988.4388.4388.4305&cvc=737", "4917610000000000003", "4242 4242 4242 4242 123", "4242424242424242 737"])
def test_a_published_number_is_let_through(number: str) -> None:
    assert refused_in(number) == []


@pytest.mark.parametrize("number", REAL.values(), ids=REAL)
@pytest.mark.parametrize("written", ["{0}", "pay with {0} now", "{1}", "{2}", '"card": "{2}",', "4242424242424242 {0}", "fill('{1}')"])
def test_what_could_be_somebodys_is_refused_however_it_is_written(number: str, written: str) -> None:
    fours = " ".join(number[at : at + 4] for at in range(0, len(number), 4))
    found = refused_in(written.format(number, fours, fours.replace(" ", "-")))
    assert found == [f"{number[:4]} {number[4:6]}…{number[-4:]}"]
    assert number not in str(found)


@pytest.mark.parametrize("number", [
    "4539/5787/6362/1486", "4539|5787|6362|1486", "4539   5787   6362   1486", "4539_5787_6362_1486", "４５３９５７８７６３６２１４８６"])
def test_odd_separators_hide_none(number: str) -> None:
    assert refused_in(number) == ["4539 57…1486"]


def test_the_source_of_a_flow() -> None:
    source = f"""
async def checkout(flow):
    await flow.page.get_by_label("Card").fill("{REAL["visa"]}")          # 2026-09-25 order 000000123, phone +49 30 901820
    number = 5412_7512_3412_3452
    await flow.page.get_by_label("Card").fill("4242 4242 4242 4242")
    await flow.page.get_by_label("Card").fill("{REAL["visa"]}")
"""
    assert refused_in(source) == ["4539 57…1486", "5412 75…3452"]


@pytest.mark.parametrize("text", ["", "till+{run}@shop.example", "4539578763621487", "1234567890123", "000000123", "2026-09-25T02:14:00.000Z",
                                  "0" * 5000, "9999999999999999", "4539 5787"])
def test_what_is_no_card_is_let_through(text: str) -> None:
    assert refused_in(text) == []


def test_further_test_cards_can_be_named() -> None:
    assert refused_in(REAL["visa"], also=["4539 5787 6362 1486"]) == []
    assert refused_in(REAL["mastercard"], also=["4539 5787 6362 1486"]) == ["5412 75…3452"]


@pytest.mark.parametrize("piece", ["4", "4 ", "4539 5787 6362 1486 ", "4539578763621486", "%20", "&nbsp;4", "\\u00a04"])
def test_it_takes_linear_time(piece: str) -> None:
    def seconds(length: int) -> float:
        begun = time.thread_time()
        refused_in(piece * (length // len(piece)))
        return time.thread_time() - begun
    seconds(5_000)
    small, large = min(seconds(5_000) for _ in range(3)), min(seconds(40_000) for _ in range(2))
    assert large < 30 * small + 0.05, "eight times the text"
