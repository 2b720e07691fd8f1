"""GET /probe as blackbox_exporter serves it, asked for by people, by hostile people and by a real Prometheus."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector, web
from listening import serve
from processes import Stopwatch
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from test_prometheus import ask, free_port, running, until

from monitor.exporter import FACTS, PHASES
from monitor.web import probe as on_demand
from monitor.web.auth import Guard, Tokens
from monitor.web.probe import OnDemand
from monitor.web.settings import TokenSettings, WebSettings
from probes.clients import Clients
from probes.http import HttpSettings

ROOT = Path(__file__).resolve().parents[2]
READER = {"Authorization": "Bearer read-0123456789"}


@dataclass
class Shop:
    """Answers on loopback, while it is `open`."""

    port: int = 0
    heard: list[tuple[str, str]] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.Response:
        self.heard.append((request.path_qs, request.headers.get("Authorization", "")))
        await self.open.wait()
        if request.path == "/away":
            raise web.HTTPFound("/")
        return web.Response(text="Add to basket", status=404 if request.path == "/gone" else 200)

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@dataclass
class Desk:
    """Where /probe is asked."""

    shop: Shop
    session: ClientSession
    port: int

    async def ask(self, module: str = "home", target: str = "", headers: dict[str, str] | None = None, **more: str) -> tuple[int, str]:
        query = {"module": module, "target": target} | more
        async with self.session.get(f"http://127.0.0.1:{self.port}/probe", params={k: v for k, v in query.items() if v}, headers=headers) as answer:
            return answer.status, await answer.text()


@asynccontextmanager
async def desk(*, open_reads: bool = True) -> AsyncIterator[Desk]:
    shop, application = Shop(), web.Application()
    shop.open.set()
    application.router.add_route("*", "/{rest:.*}", shop.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    shop.port = runner.addresses[0][1]
    probes = [
        HttpSettings.model_validate(settings) for settings in (
            {"name": "home", "url": shop.url(), "timeout": "5s", "expect": {"status": [200], "body_contains": ["Add to basket"]}},
            {"name": "pay", "url": shop.url("/pay"), "bearer_token": "secret-of-pay"},
            {"name": "psp", "url": "https://status.psp.example/"})]
    tokens = Tokens([TokenSettings.model_validate({"name": "r", "value": "read-0123456789", "scopes": ["read"]})], "local")
    async with (
        Clients() as clients, ClientSession(connector=TCPConnector(limit=0)) as session,
        serve(WebSettings(listen="127.0.0.1:0"), OnDemand(lambda: probes, clients, Guard(tokens, open_reads=open_reads)).routes()) as port,
    ):
        yield Desk(shop, session, port)
    await runner.cleanup()


def promtool(*words: str, told: str = "") -> None:
    done = subprocess.run(["promtool", *words], input=told, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 0, done.stdout + done.stderr


def values(text: str) -> dict[str, float]:
    return {s.name + "".join(f"/{v}" for v in s.labels.values()): s.value for family in parse_text(text) for s in family.samples}


async def test_a_target_is_measured_with_blackbox_exporters_names_and_without_labels() -> None:
    async with desk() as there:
        status, text = await there.ask(target=there.shop.url("/product?id=7"))
        found = values(text)
        assert status == 200
        assert there.shop.heard == [("/product?id=7", "")]
        assert (found["probe_success"], found["probe_http_status_code"], found["tillwatch_probe_broken"]) == (1, 200, 0)
        assert 0 < found["probe_http_duration_seconds/processing"] < found["probe_duration_seconds"] < 5
        assert {name.partition("/")[0] for name in found} == {
            "probe_success", "probe_duration_seconds", "probe_http_duration_seconds", "tillwatch_probe_broken", *FACTS,
        } - {"probe_ssl_earliest_cert_expiry"} - {name for name in FACTS if "web_vital" in name}
        assert {name.partition("/")[2] for name in found if name.startswith("probe_http_duration")} == set(PHASES)
        await asyncio.to_thread(promtool, "check", "metrics", told=text)


async def test_a_failed_run_is_an_answer_of_200() -> None:
    async with desk() as there:
        status, text = await there.ask(target=there.shop.url("/gone"))
        assert (status, values(text)["probe_success"], values(text)["probe_http_status_code"]) == (200, 0, 404)
        status, text = await there.ask(target=f"127.0.0.1:{free_port()}")          # without a scheme it is plain http
        found = values(text)
        assert (status, found["probe_success"], found["probe_http_status_code"], found["tillwatch_probe_broken"]) == (200, 0, 0, 0)


async def test_open_metrics_when_asked_for() -> None:
    async with desk() as there:
        _, text = await there.ask(target=there.shop.url(), headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        assert text.endswith("# EOF\n")
        assert {family.name for family in parse_open_metrics(text)} > {"probe_success", "probe_duration_seconds"}


@pytest.mark.parametrize(("module", "target", "status", "says"), [
    ("nobody", "SHOP", 400, 'unknown module "nobody"'),
    ("", "SHOP", 400, "unknown module"),
    ("home", "", 400, "target parameter is missing"),
    ("home", "https://evil.example/", 403, "belongs to no configured probe"),
    ("home", "http://169.254.169.254/latest/meta-data", 403, "belongs to no configured probe"),
    ("home", "http://127.0.0.1.evil.example/", 403, "belongs to no configured probe"),
    ("home", "http://evil.example@127.0.0.1/", 400, "password in the address"),
    ("home", "http://127.0.0.1:99999/", 400, "target"),
    ("home", "file:///etc/passwd", 400, "target"),
    ("home", "gopher://127.0.0.1/", 400, "target"),
    ("home", "http://127.0.0.1/a b", 400, "target"),
    ("home", "http://127.0.0.1/\r\nX: y", 400, "target"),
    ("home", "http://[", 400, "target"),
    ("pay", "https://status.psp.example/", 403, "carries credentials"),
    ("pay", "http://127.0.0.1:1/", 403, "carries credentials"),
])
async def test_what_is_not_run(module: str, target: str, status: int, says: str) -> None:
    async with desk() as there:
        found, text = await there.ask(module, there.shop.url() if target == "SHOP" else target)
        assert found == status, text
        assert says in json.loads(text)["detail"]
        assert json.loads(text)["status"] == status
        assert there.shop.heard == []


async def test_credentials_go_to_their_own_origin_alone_and_are_never_shown() -> None:
    async with desk() as there:
        status, text = await there.ask("pay", there.shop.url("/pay/health?token=hush-hush-1"), debug="true")
        assert (status, there.shop.heard) == (200, [("/pay/health?token=hush-hush-1", "Bearer secret-of-pay")])
        assert "pay: ok" in text
        assert "Metrics that would have been returned:\n# HELP probe_success" in text
        assert "secret-of-pay" not in text
        assert "hush-hush" not in text


async def test_beyond_loopback_it_needs_a_token() -> None:
    async with desk(open_reads=False) as there:
        assert (await there.ask(target=there.shop.url()))[0] == 401
        assert there.shop.heard == []
        assert (await there.ask(target=there.shop.url(), headers=READER))[0] == 200


async def test_the_run_ends_before_the_scrape_does() -> None:
    async with desk() as there:
        there.shop.open.clear()
        with Stopwatch() as watch:
            status, text = await there.ask(target=there.shop.url(), headers={"X-Prometheus-Scrape-Timeout-Seconds": "0.8"})
            assert watch() < 0.8
            assert (status, values(text)["probe_success"]) == (200, 0)
            assert 0.25 < values(text)["probe_duration_seconds"] < 0.6 + watch.kept
        for nonsense in ("soon", "nan", "inf", "-1", "0"):
            status, text = await there.ask(target=there.shop.url(), headers={"X-Prometheus-Scrape-Timeout-Seconds": nonsense})
            assert status == 400, nonsense


@pytest.mark.parametrize(("scrape", "configured", "seconds"), [("", 10, 10), ("15", 10, 10), ("10", 10, 9.5), ("0.4", 10, 0.2), ("1", 10, 0.5)])
def test_the_shorter_time_out_counts(scrape: str, configured: float, seconds: float) -> None:
    assert on_demand.timeout(scrape, configured) == seconds


async def test_runs_at_once_are_bounded() -> None:
    async with desk() as there:
        there.shop.open.clear()
        statuses: list[int] = []
        for answered in asyncio.as_completed([there.ask(target=there.shop.url()) for _ in range(on_demand.MOST_RUNS + 8)]):
            statuses.append((await answered)[0])
            if statuses.count(503) == 8:                       # all have come, and those that are let in are still under way
                there.shop.open.set()
        assert sorted(statuses) == [200] * on_demand.MOST_RUNS + [503] * 8
        there.shop.open.set()
        assert (await there.ask(target=there.shop.url()))[0] == 200               # and all places are free again


async def test_the_plan_of_the_configured_probe_is_not_used_for_another_address() -> None:
    async with desk() as there:
        await there.ask("home", there.shop.url("/first"))
        await there.ask("home", there.shop.url("/second"))
        assert [path for path, _ in there.shop.heard] == ["/first", "/second"]


def scrape_config() -> str:
    """The example of the docs."""
    section = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").split("### `GET /probe`")[1].split("\n### ")[0]
    return re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)[0]


@pytest.mark.timeout(120)
async def test_prometheus_scrapes_it_by_the_relabelling_of_the_docs(tmp_path: Path) -> None:
    async with desk() as there:
        config, prometheus = tmp_path / "prometheus.yml", free_port()
        text = scrape_config().replace("https://shop.example", there.shop.url("")).replace("127.0.0.1:9464", f"127.0.0.1:{there.port}")
        config.write_text("global: {scrape_interval: 1s, scrape_timeout: 1s}\n" + text)
        await asyncio.to_thread(promtool, "check", "config", str(config))
        log, at = tmp_path / "prometheus.log", f"--web.listen-address=127.0.0.1:{prometheus}"
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}", at]

        def scraped() -> Any:
            with running(command, log):
                return until(lambda: len(found := ask(prometheus, "probe_success == 1")) == 2 and found, log)
        found = await asyncio.to_thread(scraped)
        assert {row["metric"]["instance"] for row in found} == {there.shop.url("/"), there.shop.url("/search?q=tea")}
        assert {path for path, _ in there.shop.heard} == {"/", "/search?q=tea"}
