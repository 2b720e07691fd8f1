"""Against a real Alertmanager: it holds exactly the alert, announces it, and announces its end once."""

import asyncio
import json
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from desk import FACTS, Hook, make_incident, make_member, make_message, serving, settings, silent_server, teller, until
from processes import free_port

from monitor.alerts import alertmanager, dispatch
from monitor.alerts.delivery import Delivered, DeliveryError, Message, Told
from monitor.alerts.dispatch import Dispatch
from monitor.alerts.post import open_session
from monitor.clock import Clock, iso
from monitor.store import Store

PROGRAM = "prometheus-alertmanager"
# On a machine that checks for all of us a test that does not run is a failure: nobody reads that it was skipped.
real = pytest.mark.skipif(not shutil.which(PROGRAM) and not os.environ.get("CI"), reason=f"{PROGRAM} is not installed")
CONFIG = """
route: {{receiver: hook, group_by: ["..."], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers: [{{name: hook, webhook_configs: [{{url: "{url}", send_resolved: true}}]}}]
"""


@asynccontextmanager
async def running(folder: Path, announced: Hook, port: int) -> AsyncIterator[str]:
    if not shutil.which(PROGRAM):
        pytest.fail(f"{PROGRAM} is not installed, and CI is set: `make servers` installs it")
    folder.mkdir()  # noqa: ASYNC240 - a test's own folder
    (folder / "config.yml").write_text(CONFIG.format(url=announced.url))
    process = await asyncio.create_subprocess_exec(
        PROGRAM,
        f"--config.file={folder}/config.yml",
        f"--storage.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=error",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        await until(lambda: _ready(url), 30)
        yield url
    finally:
        process.kill()
        await process.wait()


async def _ready(url: str) -> bool:
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(f"{url}/-/ready") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False


async def held(url: str) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/api/v2/alerts") as response:
        return await response.json()  # type: ignore[no-any-return]


def announced_of(hook: Hook) -> list[tuple[str, str]]:
    """(status, alert) in the order of the announcements, each alert's state once."""
    seen: list[tuple[str, str]] = []
    for post in hook.got:
        for alert in json.loads(post.body)["alerts"]:
            entry = alert["status"], f"{alert['labels']['incident']}/{alert['labels'].get('escalation', '0')}"
            if entry not in seen:
                seen.append(entry)
    return seen


class Shifted(Clock):
    """The real clock, moved on by hand."""

    shift = 0.0

    def now(self) -> float:
        return super().now() + self.shift


def fresh(**values: Any) -> Any:
    now = time.time()
    return make_incident(**{"began": now - 60, "opened": now, "members": (make_member(since=now - 60),)} | values)


@real
async def test_it_holds_exactly_the_alert_and_then_its_end(tmp_path: Path, store: Store) -> None:
    clock = Shifted()
    async with serving(Hook()) as announced, running(tmp_path / "am", announced, free_port()) as url:
        receivers = [settings("alertmanager", name="am", peers=[url], runbook="https://wiki.example/pay")]
        tell, incident = teller(store, clock, receivers), fresh()
        async with Dispatch(store, receivers, clock, lambda _: FACTS) as desk:
            await tell("firing", incident)
            await desk.settled()
            (alert,) = await held(url)
            assert alert["labels"] == {
                "alertname": "ShopOutage",
                "shop": "example-shop",
                "environment": "production",
                "incident": "01incident",
                "urgency": "page",
                "probe": "pay",
            }
            assert alert["startsAt"] == iso(incident.began)
            assert alert["annotations"]["runbook_url"] == "https://wiki.example/pay"
            assert alert["annotations"]["summary"].startswith("[page] example-shop: Customers cannot use *pay* since")
            assert alert["generatorURL"] == "https://till.example/incidents/01incident"
            ends = alert["endsAt"]

            clock.shift = 60.5  # a minute later it is said again, under the same labels, for longer
            await tell("changed", replace(incident, members=(make_member(), make_member("home"))))
            await desk.settled()
            (alert,) = await held(url)
            assert alert["endsAt"] > ends
            assert "*home*" in alert["annotations"]["summary"]

            await until(lambda: announced_of(announced) == [("firing", "01incident/0")])
            await tell("resolved", replace(incident, resolved=time.time(), resolution="recovered"))
            await desk.settled()
            assert await held(url) == []
            await until(lambda: announced_of(announced) == [("firing", "01incident/0"), ("resolved", "01incident/0")])


@real
async def test_an_escalation_is_a_new_alert_and_ends_the_old_one(tmp_path: Path, store: Store) -> None:
    clock = Shifted()
    async with serving(Hook()) as announced, running(tmp_path / "am", announced, free_port()) as url:
        receivers = [settings("alertmanager", name="am", peers=[url], urgency="ticket")]
        tell, incident = teller(store, clock, receivers), fresh(urgency="ticket")
        async with Dispatch(store, receivers, clock, lambda _: FACTS) as desk:
            await tell("firing", incident)
            await desk.settled()
            await tell("escalated", replace(incident, urgency="page", escalation=1))
            await desk.settled()
            (alert,) = await held(url)
            assert (alert["labels"]["escalation"], alert["labels"]["urgency"]) == ("1", "page")
            await tell("resolved", replace(incident, urgency="page", escalation=1, resolved=time.time()))
            await desk.settled()
            assert await held(url) == []


@real
async def test_alertmanager_that_forgot_everything_is_told_again_by_a_restarted_daemon(tmp_path: Path, store: Store) -> None:
    clock, port = Shifted(), free_port()
    receivers = [settings("alertmanager", name="am", peers=[f"http://127.0.0.1:{port}"])]
    tell = teller(store, clock, receivers)
    async with serving(Hook()) as announced:
        async with running(tmp_path / "one", announced, port), Dispatch(store, receivers, clock, lambda _: FACTS) as desk:
            await tell("firing", fresh())
            await desk.settled()
        async with running(tmp_path / "two", announced, port) as url:
            assert await held(url) == []
            async with Dispatch(store, receivers, clock, lambda _: FACTS) as desk:
                await desk.settled()
                assert len(await held(url)) == 1


@real
async def test_a_drill_is_marked_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = asyncio.Event()

    async def hold(seconds: float) -> None:
        assert seconds == dispatch.DRILL_HOLD
        await looked.wait()

    monkeypatch.setattr(dispatch, "asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": hold}))
    async with serving(Hook()) as announced, running(tmp_path / "am", announced, free_port()) as url:
        own = settings("alertmanager", name="am", peers=[url])
        drill = asyncio.create_task(dispatch.test_alert(own, FACTS, Clock()))
        await until(lambda: _count(url, 1))
        (alert,) = await held(url)
        assert (alert["labels"]["alertname"], alert["labels"]["drill"]) == ("TillwatchDrill", "true")
        looked.set()
        assert isinstance(await drill, Delivered)
        assert await held(url) == []


async def _count(url: str, wanted: int) -> bool:
    return len(await held(url)) == wanted


async def post_to(peers: list[str], message: Message | None = None) -> Delivered | DeliveryError:
    async with open_session() as session:
        return await alertmanager.send(settings("alertmanager", peers=peers), session, message or make_message())  # type: ignore[arg-type]


async def test_one_peer_that_has_it_is_enough(server: Hook) -> None:
    result = await post_to([f"http://127.0.0.1:{free_port()}", server.url])
    assert isinstance(result, Delivered)
    assert "could not be reached" in result.detail
    assert len(server.got) == 1


async def test_a_silent_peer_does_not_hold_up_the_others(server: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alertmanager, "GRACE", 0.05)
    async with silent_server() as silent:
        result = await post_to([f"http://127.0.0.1:{silent}", server.url])
    assert result == Delivered("a peer does not answer")


async def test_refused_by_all_peers_is_permanent_by_some_is_not(server: Hook) -> None:
    server.answer = 400
    refused = await post_to([server.url, f"{server.url}/am"])
    assert isinstance(refused, DeliveryError)
    assert refused.permanent
    assert [post.path for post in server.got] in (["/api/v2/alerts", "/am/api/v2/alerts"], ["/am/api/v2/alerts", "/api/v2/alerts"])
    mixed = await post_to([server.url, f"http://127.0.0.1:{free_port()}"])
    assert isinstance(mixed, DeliveryError)
    assert not mixed.permanent


def test_labels_are_of_the_opening_and_words_of_now() -> None:
    opened = make_incident()
    message = replace(make_message(make_incident(members=(make_member(), make_member("home")))), opened=opened)
    (alert,) = alertmanager.alerts(message)
    assert alert["labels"]["probe"] == "pay"
    assert "*home*" in alert["annotations"]["summary"]


def test_an_end_ends_all_that_was_told() -> None:
    now = time.time()
    first, second = make_incident(began=now - 900), make_incident(began=now - 900, escalation=1)
    message = make_message(replace(second, resolved=now - 5), now=now, earlier=(Told(first, now - 500), Told(second, now - 5)))
    assert [(a["labels"].get("escalation"), a["endsAt"]) for a in alertmanager.alerts(message)] == [(None, iso(now - 500)), ("1", iso(now - 5))]
