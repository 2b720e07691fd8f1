"""T1: killed at 200 random instants, with several incidents open at once: none is lost, and nobody hears of one as two."""

import json
import os
from pathlib import Path

import pytest
from kill_campaign import campaign

KILLS = int(os.environ.get("TILLWATCH_KILLS", "200"))
SEED = int(os.environ.get("TILLWATCH_SEED", "7"))


@pytest.mark.timeout(300 + KILLS)
def test_killed_at_random_instants_it_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    outcomes = campaign(tmp_path, SEED, KILLS)
    told = f"TILLWATCH_SEED={SEED} TILLWATCH_KILLS={KILLS}, state in {tmp_path}\n" + "\n".join(json.dumps(o.summary()) for o in outcomes)
    print(told)
    wrong = [w for outcome in outcomes for w in outcome.wrong]
    assert not wrong, told + "\n" + "\n".join(f"{w.promise}: {w.what}" for w in wrong)
    assert sum(outcome.kills for outcome in outcomes) == KILLS
    assert sum(len(o.record.incidents) for o in outcomes) > KILLS / 4, "too few incidents to say anything"
    assert any(facts["escalation"] for o in outcomes for facts in o.record.incidents.values())
