"""The message that Tillwatch itself has stopped: who is told, of what, however wrong the configuration is."""

import json
from pathlib import Path

import pytest
from aiohttp import web

from monitor import last_words
from monitor.alerts.delivery import DeliveryError
from monitor.alerts.post import open_session
from monitor.client import CommandError
from monitor.incidents import Incident

GOOD = '[[receiver]]\nname = "{}"\nkind = "webhook"\nurl = "{}"\nsecret = "whsec_dGlsbHdhdGNoLXRpbGx3YXRjaA=="\non = ["outage"]\n'
HOOK = GOOD.format("hook", "http://127.0.0.1:1/")


def salvaged(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return [receiver.name for receiver in last_words.salvage(path)[1]]


@pytest.mark.parametrize("wrong", [
    "", '[[probe]]\nkind = "htpp"\n', 'intervall = "5s"\n', "shop = 5\n", '[daemon]\nretention = "never"\n', "probe = 3\n",
    '[[receiver]]\nname = "other"\nkind = "pigeon"\n', '[[receiver]]\nname = "other"\nkind = "webhook"\nurl = 5\n', "[[receiver]]\n",
])
def test_what_is_wrong_elsewhere_keeps_no_receiver_from_being_told(tmp_path: Path, wrong: str) -> None:
    assert salvaged(tmp_path, wrong + HOOK) == ["hook"]


@pytest.mark.parametrize("text", ["", "receiver = 5\n", 'receiver = ["hook"]\n', "this is = no TOML", '[[receiver]]\nname = "a"\nkind = "pigeon"\n'])
def test_when_nobody_can_be_told_that_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CommandError, match=r"no receiver that could be told|nobody could be told"):
        last_words.tell(path, "tillwatch.service")


@pytest.mark.parametrize(("result", "status", "restarts", "told"), [
    ("exit-code", "2", 5, "u.service, exit code 2, 5 restarts did not help"),
    ("core-dump", "ABRT", 0, "u.service, killed by ABRT"),
    ("watchdog", "ABRT", 5, "u.service, it hangs, 5 restarts did not help"),
    ("start-limit-hit", "2", 5, "u.service, it ends soon after every start, 5 restarts did not help"),
    ("resources", "", 0, "u.service, resources"),
    ("", "", 0, "u.service"),
])
def test_the_sentence_says_where_what_and_how_often(result: str, status: str, restarts: int, told: str) -> None:
    environment = {"MONITOR_SERVICE_RESULT": result, "MONITOR_EXIT_STATUS": status}
    said = last_words.sentence("u.service", "watch1", environment, restarts)
    assert said == f"Tillwatch itself has stopped on watch1 ({told}): the shop is not watched"


async def insisted(tmp_path: Path, statuses: list[int], monkeypatch: pytest.MonkeyPatch) -> tuple[list[dict[str, str]], last_words.Result]:
    """Tell a webhook that answers with these statuses, one after the other."""
    letters = []

    async def answer(request: web.Request) -> web.Response:
        letters.append(await request.json())
        return web.Response(status=statuses[len(letters) - 1])

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    path = tmp_path / "config.toml"
    path.write_text('[shop]\nname = "shoes"\nurl = "http://s/"\n' + GOOD.format("hook", f"http://127.0.0.1:{port}/"), encoding="utf-8")
    shop, (receiver,) = last_words.salvage(path)
    incident = Incident(id="i", kind="monitor_fault", cause="stopped", urgency="page", opened=1e9, began=1e9)
    monkeypatch.setattr(last_words, "PAUSES", (0.0,) * 5)
    async with open_session() as session:
        result = await last_words._insist(receiver, session, last_words.message(incident, receiver, shop, "It stopped", 1e9))
    await runner.cleanup()
    return letters, result


async def test_a_receiver_that_does_not_answer_well_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    letters, result = await insisted(tmp_path, [503, 503, 204], monkeypatch)
    assert len(letters) == 3
    assert not isinstance(result, DeliveryError)
    data = json.loads(json.dumps(letters[-1]))["data"]
    assert (data["kind"], data["urgency"], data["sentence"], data["shop"]["name"]) == ("monitor_fault", "page", "It stopped", "shoes")
    assert "link" not in data
    assert "nobody watches the shop" in data["do_first"]["cost"]


async def test_what_is_refused_for_good_is_tried_with_the_least_that_helps_and_then_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    letters, result = await insisted(tmp_path, [400, 400], monkeypatch)
    assert len(letters) == 2
    assert isinstance(result, DeliveryError)
    assert result.permanent
