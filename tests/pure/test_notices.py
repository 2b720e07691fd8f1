"""News of an update, in a sentence."""

import pytest

from monitor.notices import notice
from monitor.updates import Changed, Update

NOW = 1_790_000_000.0
UPDATE = Update("2026-09-21-1", "8.4.1", NOW, "ci", phase="canary", changes=(Changed("woocommerce", "8.4.1"), Changed("theme")))


@pytest.mark.parametrize(("act", "words"), [
    ("start", "Update 8.4.1 (woocommerce 8.4.1, theme) was started by ci, phase canary"),
    ("phase", "Update 8.4.1 (woocommerce 8.4.1, theme) is now in phase canary, by ci"),
    ("finish", "Update 8.4.1 (woocommerce 8.4.1, theme) was finished by ci"),
    ("rollback", "Update 8.4.1 (woocommerce 8.4.1, theme) is rolled back by ci"),
    ("cancel", "Update 8.4.1 (woocommerce 8.4.1, theme) was cancelled by ci"),
    ("expired", "Update 8.4.1 (woocommerce 8.4.1, theme) was not finished by anybody, and counts as finished"),
])
def test_each_step_has_its_sentence(act: str, words: str) -> None:
    news = notice(UPDATE, act, "ci", NOW)
    assert news is not None
    assert (news.kind, news.update, news.version, news.urgency, news.said) == ("update", UPDATE.id, "8.4.1", "ticket", words)


def test_what_the_judge_decides_is_no_news_of_this_kind_and_two_news_are_two() -> None:
    assert notice(UPDATE, "pass", "judge", NOW) is None
    assert notice(UPDATE, "closed", "tillwatch", NOW) is None
    one, two = notice(UPDATE, "start", "ci", NOW), notice(UPDATE, "start", "ci", NOW)
    assert one is not None
    assert two is not None
    assert one.id != two.id
