"""What ran during an earlier update is "before" of the next one unless the update did harm, or may have done."""

from dataclasses import replace
from typing import Any

import pytest
from stage import BASELINE, SPACING, Actor, Make, Stage
from test_before import earlier, runs

from monitor.store import records
from monitor.updates import Status, Update

BOTH = (Actor("home", critical=False), Actor("pay"))


def leaning(by: float | None, *, control: bool = False) -> dict[str, Any]:
    """A ruling by which one signal has come so far to what an alarm needs."""
    return {"signals": [{"control": control, "evidence": by and by * 3.0, "threshold": 3.0}]}


async def frozen(stage: Stage, update: Update) -> dict[str, int]:
    """How many runs each probe has in the stored past of that update."""
    stored = await stage.store.read(lambda c: records.baselines(c, update.id))
    return {target[0]: facts["runs"] for target, facts in stored.items()}


@pytest.mark.parametrize(("values", "left"), [
    ({"status": Status.CLOSED, "rolled_back": 1.0, "verdict": "inconclusive"}, 100),
    ({"status": Status.CLOSED, "verdict": "inconclusive", "ruling": leaning(0.6)}, 100),
    ({"status": Status.OBSERVING, "closed": None, "ruling": leaning(0.6)}, 50),
    ({"status": Status.CLOSED, "verdict": "inconclusive", "ruling": leaning(0.4)}, 200),
    ({"status": Status.CLOSED, "verdict": "inconclusive", "ruling": leaning(0.9, control=True)}, 200),
    ({"status": Status.CLOSED, "verdict": "inconclusive", "ruling": leaning(None)}, 200),
    ({"status": Status.CLOSED, "verdict": "pass", "ruling": leaning(0.6)}, 200),
])
async def test_an_update_that_was_taken_back_or_is_in_doubt_is_nobodys_past(make: Make, values: dict[str, Any], left: int) -> None:
    stage = await make(actors=BOTH)
    assert await runs(stage, [earlier(stage, **values)]) == {"home": left, "pay": left}


async def test_announced_downtime_is_nobodys_past(make: Make) -> None:
    stage = await make(actors=BOTH)
    update = earlier(stage, verdict="pass", status=Status.CLOSED)
    assert await runs(stage, [replace(update, downtime_until=update.started + 20 * SPACING)]) == {"home": 180, "pay": 180}


async def test_the_next_update_has_the_clear_runs_of_the_one_that_it_ends(make: Make) -> None:
    stage = await make(actors=BOTH)
    await stage.start("2.0")
    await stage.live(10)
    await stage.act("finish")
    await stage.live(10)
    update = await stage.start("2.1")
    assert await frozen(stage, update) == {"home": BASELINE + 20, "pay": BASELINE + 20}


async def test_but_not_while_it_is_in_doubt(make: Make) -> None:
    stage = await make(actors=BOTH, warm_up="0s")
    first = await stage.start("2.0")
    await stage.live(10)
    await stage.act("finish")
    await stage.live(5)
    while not stage.watch.suspect(stage.clock.at)[0].in_doubt:      # type: ignore[union-attr]
        await stage.live(1, slow=["pay"])
        await stage.live(1)
    assert (await stage.update(first.id)).verdict == "watching"
    update = await stage.start("2.1")
    assert await frozen(stage, update) == {"home": BASELINE, "pay": BASELINE}
