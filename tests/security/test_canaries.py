"""Sixty secrets are let into a real daemon by every door; afterwards they are looked for wherever it leaves anything (T80, T83, T84)."""

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from canaries import CONFIGURED, SHAPES, Canary, secret, webhook_key
from masquerade import Guest, Town, town
from processes import free_port, until

pytestmark = pytest.mark.timeout(240)

ENVIRONMENT = {"TOWN_BEARER": secret(2), "TOWN_PD": secret(9), "TOWN_CI": secret(15), "TOWN_UNUSED": secret(20)}
TOP = """
[shop]
name = "kettle"
url = "http://127.0.0.1:{port}/"
[web]
listen = "127.0.0.1:{own}"
[defaults]
interval = "3s"
timeout = "3s"
recheck = "250ms"
failures = 2
of = 3
confirm = "1s"
[heartbeat]
url = "http://127.0.0.1:{port}/to/heart/{s12}"
interval = "15s"
[[token]]
name = "reader"
value = "{s14}"
scopes = ["read"]
[[token]]
name = "ci"
value = {{ env = "TOWN_CI" }}
[[token]]
name = "ops"
value = {{ credential = "ops" }}
scopes = ["operate"]
[[probe]]
name = "redirect"
kind = "http"
url = "http://127.0.0.1:{port}/away?access_token={s18}"
expect = {{ final_url = "http://127.0.0.1:{port}/home" }}
"""
LOGINS = {
    "basic": 'basic_auth = {{ username = "till", password = "{s1}" }}', "bearer": 'bearer_token = {{ env = "TOWN_BEARER" }}',
    "key": 'headers = {{ X-Key = {{ file = "key" }} }}', "cookie": 'headers = {{ Cookie = "sid={s4}" }}',
    "header": 'headers = {{ Authorization = "Bearer {s5}" }}',
}
RECEIVERS = {
    "hook": 'kind = "webhook"\nurl = "http://127.0.0.1:{port}/to/hook/{s6}?k={s7}"\nsecret = "{w8}"',
    "pager": 'kind = "pagerduty"\nrouting_key = {{ env = "TOWN_PD" }}\nurl = "http://127.0.0.1:{port}/to/pager"',
    "chat": 'kind = "slack"\nurl = "http://127.0.0.1:{port}/to/chat/services/T0/{s10}"',
    "push": 'kind = "ntfy"\ntopic = "{s11}"\ntoken = "{s13}"\nurl = "http://127.0.0.1:{port}/to/push"',
    "am": 'kind = "alertmanager"\npeers = ["http://127.0.0.1:{port}/to/am"]\nbearer_token = "{s17}"',
    "mail": 'kind = "email"\nhost = "127.0.0.1"\nport = {closed}\ntls = "none"\nfrom = "t@shop.example"\nto = ["on@shop.example"]\n'
            'username = "till"\npassword = "{s19}"',
}
# Which receiver is told which secret because it is its own. The heartbeat's and the probes' go to nobody that keeps what it hears.
OTHERS = (1, 2, 3, 9, 10, 11, 12, 13, 14, 15, 16, 17, 19)       # shown by a page to a probe that has no part in them
OWN = {"hook": {6, 7, 8}, "pager": {9}, "chat": {10}, "push": {11, 13}, "am": {17}, "heart": {12}}


def configuration(port: int, own: int, closed: int) -> str:
    named = {f"s{number}": secret(number) for number in CONFIGURED} | {"w8": webhook_key(8), "port": port, "own": own, "closed": closed}
    parts = [TOP.format(**named)]
    probe = '[[probe]]\nname = "{name}"\nkind = "http"\nurl = "http://127.0.0.1:{port}{path}"\n{more}\n'
    for name, login in LOGINS.items():
        parts += [probe.format(name=f"{name}-{how}", path=f"/echo/{how}", more=login.format(**named), port=port)
                  for how in ("plain", "json", "url", "half", "base64", "repr")]
    for number in range(len(SHAPES)):
        parts.append(probe.format(name=f"shape-{number}", path=f"/shape/{number}", more="", port=port))
        more = 'expect = { header_matches = { X-Said = "^nothing of the kind$" } }'
        parts.append(probe.format(name=f"header-{number}", path=f"/header/{number}", more=more, port=port))
    parts += [probe.format(name=f"other-{number}", path=f"/other/{number}", more="", port=port) for number in OTHERS]
    for name, more in RECEIVERS.items():
        on = 'on = ["outage", "regression", "update", "monitor_fault"]\nurgency = "ticket"\n'
        parts.append(f'[[receiver]]\nname = "{name}"\n{on}{more.format(**named)}\n')
    return "\n".join(parts)


@dataclass
class Left:
    """What the daemon has left, by place."""

    places: dict[str, bytes]
    told: dict[str, list[bytes]]
    token: str
    cmdline: bytes
    environ: bytes

    def has(self, canary: Canary, places: dict[str, bytes]) -> set[str]:
        return {place for place, found in places.items() for spelling in canary.spellings() if spelling in found}


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Left]:
    folder = tmp_path_factory.mktemp("masquerade")
    with town() as here:
        daemon = prepare(folder, here)
        daemon.start()
        try:
            yield visit(daemon, here)
        finally:
            daemon.stop()


def prepare(folder: Path, here: Town) -> Guest:
    own, closed = free_port(), free_port()
    (folder / "config.toml").write_text(configuration(here.port, own, closed))
    (folder / "key").write_text(secret(3) + "\n")
    (folder / "credentials").mkdir()
    (folder / "credentials" / "ops").write_text(secret(16))
    for path in (folder / "config.toml", folder / "key", folder / "credentials" / "ops"):
        path.chmod(0o600)
    return Guest(folder, own, ENVIRONMENT | {"CREDENTIALS_DIRECTORY": str(folder / "credentials")})


def visit(daemon: Guest, here: Town) -> Left:
    """Let everything happen: outages, pages that are refused, an update with its report, every verb, every page of the API; then gather it."""
    places: dict[str, bytes] = {"CLI start": daemon.says("update", "start", "2.0")}
    wanted = {"hook", "pager", "chat", "push", "am", "heart"}
    until(lambda: wanted <= here.told.keys(), 80, "every receiver's message")
    until(lambda: b'"down"' in daemon.get("/api/v1/probes") and daemon.get("/api/v1/probes").count(b'"state": "down"') > 60, 60, "the outages")
    daemon.post("/api/v1/updates", {"version": "2.1"}, "wrong " + secret(15))
    daemon.post("/api/v1/updates", {"vershun": 1}, secret(15))
    ids = [incident["id"] for incident in json.loads(daemon.get("/api/v1/incidents"))["incidents"]]
    paths = ["/metrics", "/api/v1/probes", "/api/v1/samples?limit=1000", "/api/v1/incidents", "/api/v1/updates", "/api/v1/updates/newest",
             "/api/v1/updates/newest/verdict", "/api/v1/updates/newest/report", "/api/v1/updates/newest/report?format=md", "/api/v1/silences",
             "/api/v1/openapi.json", "/-/healthy", f"/probe?module=basic-plain&debug=true&target=http://127.0.0.1:{here.port}/echo/plain",
             f"/api/v1/nothing/{secret(18)}"[:16], *(f"/api/v1/incidents/{id_}" for id_ in ids)]
    places |= {f"GET {path}": daemon.get(path) for path in paths}
    verbs = [("probe", "basic-plain", "--json"), ("probe", "bearer-base64"), ("probe", "key-half"), ("probe", "cookie-url"), ("check-config",),
             ("doctor",), ("incidents",), ("update", "status"), ("test-alert", "push", "--json"),
             ("report", "-o", str(daemon.folder / "report.html"))]
    threads = [threading.Thread(target=lambda verb=verb: places.update({f"CLI {' '.join(verb)}": daemon.says(*verb)})) for verb in verbs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert daemon.process
    proc = Path("/proc") / str(daemon.process.pid)
    cmdline, environ = (proc / "cmdline").read_bytes(), (proc / "environ").read_bytes()
    places |= files(daemon.folder, "while it runs")
    daemon.stop()
    places |= files(daemon.folder, "afterwards")
    return Left(places, here.told, daemon.token, cmdline, environ)


def files(folder: Path, when: str) -> dict[str, bytes]:
    found = [path for path in (folder / "state").rglob("*") if path.is_file() and path.name != "token"]
    return {f"{path.name} {when}": path.read_bytes() for path in [*found, folder / "daemon.log", *folder.glob("report*")]}


def test_there_was_something_to_be_seen(left: Left) -> None:
    """Else the tests below could not fail: failing pages were told of, every receiver refused, and all of it was written down."""
    everything = b"".join(left.places.values())
    assert len(SHAPES) + len(CONFIGURED) >= 58
    assert everything.count(b"[hidden]") > 200
    for mark in (b"[card \xe2\x80\xa6", b"[e-mail]", b"[phone]", b"you said [hidden]", b"answered 503", b"page not delivered"):
        assert mark in everything or mark.replace(b"\xe2\x80\xa6", b"\\u2026") in everything, mark
    for place in ("tillwatch.sqlite3 while it runs", "daemon.log afterwards", "GET /api/v1/samples?limit=1000", "CLI probe basic-plain --json"):
        assert b"[hidden]" in left.places[place], place
    assert any(place.startswith("report") for place in left.places)


@pytest.mark.parametrize("number", CONFIGURED)
def test_a_configured_secret_is_nowhere(left: Left, number: int) -> None:
    assert left.has(CONFIGURED[number], left.places) == set()
    others = {name: b"".join(messages) for name, messages in left.told.items() if number not in OWN.get(name, set())}
    assert left.has(CONFIGURED[number], others) == set()


@pytest.mark.parametrize("number", range(len(SHAPES)))
def test_what_looks_like_a_secret_is_nowhere(left: Left, number: int) -> None:
    bare = SHAPES[number].bare.encode()
    messages = {name: b"".join(found) for name, found in left.told.items()}
    assert {place for place, found in (left.places | messages).items() if bare in found} == set(), SHAPES[number].says


def test_the_generated_token_is_in_its_file_only(left: Left) -> None:
    assert left.has(Canary("token", left.token), left.places) == set()


def test_a_webhook_key_is_nowhere_either_packed_as_it_is(left: Left) -> None:
    assert [place for place, found in left.places.items() if webhook_key(8)[6:].encode() in found] == []


def test_the_process_shows_no_more_than_its_administrator_gave_it(left: Left) -> None:
    """/proc/PID/environ holds what { env } asked for, readable by the daemon's user and root alone; the command line holds nothing."""
    given = set(ENVIRONMENT.values())
    for canary in CONFIGURED.values():
        assert canary.bare.encode() not in left.cmdline
        assert (canary.bare.encode() in left.environ) == (canary.bare in given)
    assert os.environ.keys().isdisjoint(ENVIRONMENT)
