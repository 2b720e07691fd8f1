"""The OpenAPI document: valid, true to the routes in both directions, and the daemon stands what its clients can make of it."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import ClientSession, web
from listening import serve
from openapi_spec_validator import OpenAPIV31SpecValidator
from shopfront import HOME, made

from monitor.alerts.page import Facts, ShopFacts
from monitor.before import Judged
from monitor.casebook import Casebook, Reports
from monitor.clock import ManualClock
from monitor.exporter import Exporter
from monitor.judge.signals import Margin, Subject
from monitor.silences import Silences
from monitor.store import Store
from monitor.updates import UpdateSettings
from monitor.watch import Pace, Watch
from monitor.web import openapi
from monitor.web.api import Api
from monitor.web.artifacts import ArtifactPages
from monitor.web.auth import Guard, Tokens
from monitor.web.openapi import OPERATIONS, document
from monitor.web.operate import Operate
from monitor.web.pages import Insight, Pages
from monitor.web.probe import OnDemand
from monitor.web.settings import WebSettings
from probes.artifacts import Artifacts
from probes.clients import Clients
from probes.http import HttpSettings
from probes.table import PROBES

NOTHING: Any = cast("Any", None)
TOKEN = "local-admin-0123456789"


def served(routes: Iterable[web.RouteDef]) -> set[str]:
    """Every route that is served, a choice of words in a path as so many routes."""
    found = set()
    for route in routes:
        choice = re.search(r"\{\w+:([\w|]+)\}", route.path)
        paths = [route.path.replace(choice[0], word) for word in choice[1].split("|")] if choice else [route.path]
        found |= {f"{route.method} {path}" for path in paths}
    return found


def test_every_route_is_described_and_no_other() -> None:
    api = Api(store=NOTHING, exporter=NOTHING, operations=NOTHING, guard=NOTHING, clock=NOTHING, status=NOTHING, targets=NOTHING, shop="",
              reload=NOTHING)
    operate = Operate(casebook=NOTHING, silences=NOTHING, store=NOTHING, guard=NOTHING, clock=NOTHING)
    pages = Pages(store=NOTHING, operations=NOTHING, guard=NOTHING, clock=NOTHING, insight=NOTHING)
    routes = [*api.routes(), *operate.routes(), *OnDemand(NOTHING, NOTHING, NOTHING).routes(), *pages.routes(),
              *ArtifactPages(NOTHING, NOTHING).routes(), *openapi.routes()]
    assert {f"{operation.method.upper()} {operation.path}" for operation in OPERATIONS} == served(routes)


def test_the_document_is_valid() -> None:
    OpenAPIV31SpecValidator(cast("Any", document())).validate()


def test_names_of_operations_are_names_and_belong_to_one_each() -> None:
    names = [operation["operationId"] for path in document()["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z][A-Za-z0-9]+", name) for name in names), names


def test_whatever_changes_something_needs_a_token_and_takes_what_it_says() -> None:
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            if method == "post":
                assert operation["security"] == [{"token": []}], path
                assert {"401", "403"} <= operation["responses"].keys(), path
    start = document()["components"]["schemas"]["StartRequest"]
    assert set(start["required"]) == {"version"}
    assert start["additionalProperties"] is False
    assert start["properties"]["expect_downtime"]["type"] == "string"


async def _reloaded() -> tuple[bool, dict[str, Any]]:
    return True, {}


@asynccontextmanager
async def daemon(directory: Path) -> AsyncIterator[str]:
    """All rooms behind the API, and everything that is described served; a silent shop."""
    clock, exporter = ManualClock(), Exporter("till", [HOME])
    async with Store(directory) as store, Clients() as clients:
        casebook = Casebook(store, (), clock, Reports(changed=exporter.incidents))
        subject = Subject(*HOME, "http", True, False, Margin(), PROBES["http"].signals)
        watch = Watch(UpdateSettings(), {HOME: Judged(subject, 30.0, 30.0)}, store, casebook, exporter, clock, Pace())
        await watch.load()
        silences = Silences(store, clock, [HOME])
        await silences.load()
        committing = asyncio.create_task(casebook.run())
        guard = Guard(Tokens([], TOKEN), open_reads=True)
        probe = HttpSettings.model_validate({"name": "home", "url": "http://127.0.0.1:9/", "timeout": "1s"})
        store.add_sample(made(clock.now()))
        api = Api(store=store, exporter=exporter, operations=watch, guard=guard, clock=clock, status=lambda: {"healthy": True, "ready": True},
                  targets=lambda: [{"probe": "home", "state": "up"}], shop="till", reload=_reloaded)
        operate = Operate(casebook=casebook, silences=silences, store=store, guard=guard, clock=clock)
        pages = Pages(store=store, operations=watch, guard=guard, clock=clock, insight=Insight(
            lambda: [{"probe": "home", "device": "", "cohort": "", "state": "up"}], lambda: casebook.open,
            lambda: Facts(ShopFacts("till", "https://shop.example")), lambda: {"healthy": True}))
        routes = [*api.routes(), *operate.routes(), *OnDemand(lambda: [probe], clients, guard).routes(), *pages.routes(),
                  *ArtifactPages(lambda: Artifacts(directory / "artifacts", 1 << 20), guard).routes(), *openapi.routes()]
        async with serve(WebSettings(listen="127.0.0.1:0"), routes) as port:
            yield f"http://127.0.0.1:{port}"
        committing.cancel()


async def test_the_document_is_served_to_everybody(tmp_path: Path) -> None:
    async with daemon(tmp_path) as url, ClientSession() as session, session.get(f"{url}/api/v1/openapi.json") as answer:
        assert (answer.status, await answer.json()) == (200, document())


@pytest.mark.timeout(90)
async def test_t93_no_client_that_the_document_allows_finds_an_error_of_ours(tmp_path: Path) -> None:
    """Schemathesis: what is asked for and what is not, in every parameter, header and body; every answer as described."""
    st = Path(sys.executable).with_name("st")
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance"
    async with daemon(tmp_path) as url:
        command = [
            str(st), "run", f"{url}/api/v1/openapi.json", "--checks", checks, "--max-time", "15", "--phases", "examples,coverage,fuzzing", "-n", "10",
            "-H", f"Authorization: Bearer {TOKEN}", "--seed", "47", "--no-color", "--warnings", "off", "--generation-database", "none", "--no-shrink"]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=80, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    tested = re.search(r"(\d+) selected|Tested\D*(\d+)", done.stdout)
    assert tested, done.stdout[-3000:]
