"""Every panel's query is taken to a real Prometheus that scraped a real daemon through an update: no error, and no empty answer."""

import asyncio
import http.server
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from processes import free_port

from monitor.demo.inbox import Inbox
from monitor.store import Store
from probes.sample import Outcome, Sample

FOLDER = Path(__file__).resolve().parents[2] / "dashboards"
DASHBOARDS = sorted(FOLDER.glob("grafana/*.json"))
PAST = 130
SPACING = 0.25
CONFIG = """\
[shop]
name = "till"
url = "http://127.0.0.1:{daemon}"
[web]
listen = "127.0.0.1:{daemon}"
[defaults]
interval = "250ms"
timeout = "200ms"
recheck = "250ms"
confirm = "1s"
[[probe]]
name = "home"
kind = "http"
url = "http://127.0.0.1:{daemon}/-/healthy"
critical = true
[[probe]]
name = "basket"
kind = "http"
url = "https://localhost:{secure}/"
connect_to = "127.0.0.1:{secure}"
tls = {{ ca_file = "{ca}" }}
[[probe]]
name = "nobody listens"
kind = "http"
url = "http://127.0.0.1:{nobody}/"
[[probe]]
name = "log"
kind = "error_log"
paths = ["shop.log"]
begin = "beginning"
format = "python"
[[probe]]
name = "cannot be measured"
kind = "http"
url = "https://localhost:{secure}/"
tls = {{ cert_file = "{ca}.missing", key_file = "{ca}.missing" }}
{flow}
[[receiver]]
name = "phone"
kind = "webhook"
url = "http://127.0.0.1:{inbox}/"
secret = "{secret}"
[update]
warm_up = "1s"
interval_factor = 1
"""
FLOW = """\
[[probe]]
name = "buy"
kind = "checkout"
url = "http://127.0.0.1:{page}/"
interval = "8s"
timeout = "7s"
step_timeout = "5s"
recheck = "8s"
stop_before = ""
[[probe.step]]
name = "home"
do = [{{ goto = "/" }}, {{ see = "button: Add to basket" }}]
[[probe.step]]
name = "basket"
do = [{{ click = "button: Add to basket" }}, {{ see = "text: One thing is in your basket" }}]
[browser]
no_sandbox = {root}
"""
CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
SCRAPES = """\
global: {{scrape_interval: 500ms}}
scrape_configs: [{{job_name: tillwatch, static_configs: [{{targets: ["127.0.0.1:{daemon}"]}}]}}]
"""


BODY = b"""<!doctype html><title>basket</title><h1>Shirts</h1><p id=told></p><button>Add to basket</button><script>
document.querySelector("button").onclick = () => {
  for (const end = performance.now() + 60; performance.now() < end;);
  told.textContent = "One thing is in your basket"
}</script>"""


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Nothing."""


@contextmanager
def secure_shop(folder: Path) -> Iterator[int]:
    """A page over TLS; its authority lies at folder/ca.pem."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with shop(context) as port:
        yield port


@contextmanager
def shop(context: ssl.SSLContext | None = None) -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def running(command: list[str], log: Path) -> Iterator[None]:
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(40)


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.loads(answer.read())


def ready(url: str) -> None:
    end = time.monotonic() + 40
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < end, f"{url} does not answer"
            time.sleep(0.1)
        else:
            return


async def remember(state: Path) -> None:
    """Runs of half a minute before the start, so that the update has a "before"."""
    now = time.time()
    async with Store(state) as store:
        for run in range(PAST, 0, -1):
            for probe in ("home", "basket"):
                started, seconds = now - run * SPACING, 0.002 + run % 7 * 0.0001
                store.add_sample(Sample(probe=probe, outcome=Outcome.OK, seconds=seconds, started=started, ended=started + seconds, spacing=SPACING,
                                        values={"processing": seconds}))
        await store.write(lambda connection: None)


def asked(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(where, PromQL) with the variables as Grafana would fill them in."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], filled(target["expr"])
    for note in dashboard["annotations"]["list"]:
        yield note["name"], filled(note["expr"])
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], re.sub(r"label_values\((.*), \w+\)", r"\1", filled(variable["definition"]))


def filled(query: str) -> str:
    for name, value in (("shop", "till"), ("probe", ".*"), ("device", ".*"), ("__rate_interval", "5s"), ("__range", "1m")):
        query = query.replace(f"${name}", value)
    assert "$" not in query, f"a variable that nobody fills in: {query}"
    return query


def answer(prometheus: str, query: str) -> list[Any]:
    """The rows; an error of Prometheus flies."""
    return list(get(f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}")["data"]["result"])


@pytest.mark.timeout(120)
def test_every_panel_shows_something(tmp_path: Path) -> None:
    daemon, nobody, prometheus = free_port(), free_port(), free_port()
    with ExitStack() as stack:
        inbox, secure = stack.enter_context(Inbox.listening()), stack.enter_context(secure_shop(tmp_path))
        config = tmp_path / "config.toml"
        flow = FLOW.format(page=stack.enter_context(shop()), root=str(os.geteuid() == 0).lower()) if CHROMIUM else ""
        config.write_text(CONFIG.format(
            daemon=daemon, nobody=nobody, secure=secure, inbox=inbox.port, secret=inbox.secret, ca=tmp_path / "ca.pem", flow=flow))
        (tmp_path / "shop.log").write_text("2026-11-27 18:00:00,000 ERROR [shop] no stock left\n")
        config.chmod(0o600)
        (tmp_path / "prometheus.yml").write_text(SCRAPES.format(daemon=daemon))
        (tmp_path / "state").mkdir(mode=0o700)
        asyncio.run(remember(tmp_path / "state"))
        tillwatch = [sys.executable, "-m", "monitor", "-c", str(config)]
        stack.enter_context(running([*tillwatch, "run"], tmp_path / "daemon.log"))
        ready(f"http://127.0.0.1:{daemon}/-/ready")
        stack.enter_context(running([
            "prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/tsdb",
            f"--web.listen-address=127.0.0.1:{prometheus}"], tmp_path / "prometheus.log"))
        base = f"http://127.0.0.1:{prometheus}"
        ready(f"{base}/-/ready")
        subprocess.run([*tillwatch, "update", "start", "8.4.1"], check=True, capture_output=True)
        shown = [path for path in DASHBOARDS if CHROMIUM or path.stem != "checkout"]
        wanted = {(path.stem, where, query) for path in shown for where, query in asked(json.loads(path.read_text()))}
        assert len(wanted) > 40
        end = time.monotonic() + 60
        while wanted and time.monotonic() < end:
            wanted = {found for found in wanted if not answer(base, found[2])}
            time.sleep(0.5)
        assert wanted == set(), (tmp_path / "daemon.log").read_text()[-2000:]
    if not CHROMIUM:
        pytest.skip("no Chromium, so nothing was bought for the checkout dashboard: `make servers` installs it")
