"""The sum behind the mean of bets: the same as adding all, whatever came before."""

from math import fsum

from hypothesis import given
from hypothesis import strategies as st

from monitor.judge.verdict import Sum


@given(st.lists(st.floats(0, 1e6), max_size=60), st.lists(st.tuples(st.integers(0, 59), st.floats(0, 1e200)), max_size=60))
def test_it_is_the_sum_of_what_stands_there_now(numbers, changes):
    total = Sum(list(numbers))
    for place, number in changes:
        if place < len(numbers):
            total.put(place, number)
            numbers[place] = number
    assert abs(total.total() - fsum(numbers)) <= 1e-12 * fsum(numbers)


def test_a_large_bet_that_is_lost_leaves_nothing_behind():
    total = Sum([1e-3] * 1000)
    total.put(500, 1e200)
    total.put(500, 1e-3)
    assert abs(total.total() - 1.0) < 1e-12
