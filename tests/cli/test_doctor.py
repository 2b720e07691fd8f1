"""`tillwatch doctor`: each thing that can be wrong with an installation is found, and a sound one is not complained of."""

import asyncio
import fcntl
import json
import os
import socket
import sqlite3
import ssl
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from aiohttp import web
from processes import Stopwatch, free_port
from street import till

from monitor.config import Config, load
from monitor.doctor import alarms, examine, host, network
from monitor.doctor.finding import Finding
from monitor.doctor.network import Reach
from monitor.store.schema import STEPS, migrate
from monitor.web.door import MOST_CONNECTIONS
from probes.clients import Clients

SHOP = '[shop]\nname = "till"\nurl = "{url}"\n[web]\nlisten = "127.0.0.1:{web}"\n'
PROBE = '[[probe]]\nname = "home"\nkind = "http"\nurl = "{url}"\n'
WEBHOOK = """\
[[receiver]]
name = "{name}"
kind = "webhook"
url = "{url}"
secret = "whsec_dGlsbHdhdGNoLWNhbmFyeQ=="
on = ["outage", "regression", "monitor_fault"]
"""


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None, status: int = 200, said: Any = None) -> AsyncIterator[str]:
    """A server on loopback; gives its address."""
    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(said, status=status)
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def configured(directory: Path, *parts: str, url: str = "http://127.0.0.1:9/", port: int = 0) -> Config:
    path = directory / "config.toml"
    path.touch(mode=0o600)
    path.write_text(SHOP.format(url=url, web=port or free_port()) + "".join(parts or (PROBE.format(url=url),)), encoding="utf-8")
    return load(path)


async def findings(check: Any, config: Config) -> list[Finding]:
    """What one check of the network says; a name server that is not there."""
    async with Clients(nameservers=[f"127.0.0.1:{free_port()}"]) as clients:
        return [finding async for finding in check(config, Reach(clients))]


def results(found: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.check, finding.result) for finding in found]


# ---- all of it -------------------------------------------------------------------------------------------------------


async def test_a_sound_installation_is_not_complained_of(tmp_path: Path) -> None:
    async with serving() as shop:
        text = PROBE.format(url=shop + "/") + WEBHOOK.format(name="hook", url=shop + "/page") + f'[heartbeat]\nurl = "{shop}/ping/key"\n'
        config = configured(tmp_path, text, url=shop)
        done = await asyncio.to_thread(till, "-c", str(config.path), "doctor", "--json")
        assert (done.code, done.err) == (0, "")
        assert done.json["ok"] is True
        told = {check["check"]: check["result"] for check in done.json["checks"]}
        assert {name for name, result in told.items() if result == "ok"} >= {
            "configuration", "state directory", "database", "token of this host", "open files", "secrets", "names", 'receiver "hook"', "heartbeat"}
        assert told["apart from the shop"] == "warning"             # it is on this very machine
        assert not (tmp_path / "state").exists()                    # nothing was changed
        shown = await asyncio.to_thread(till, "-c", str(config.path), "doctor")
        assert (shown.code, shown.err) == (0, "")
        assert "how to mend it" in shown.out
        assert "0 faults" in shown.out
        assert "\x1b" not in shown.out


async def test_a_fault_is_exit_code_1_and_each_has_a_remedy_and_no_secret(tmp_path: Path) -> None:
    text = PROBE.format(url="http://127.0.0.1:9/") + WEBHOOK.format(name="hook", url=f"http://127.0.0.1:{free_port()}/hooks/canary-in-path-1")
    text += f'[heartbeat]\nurl = "http://127.0.0.1:{free_port()}/ping/canary-in-path-2"\n[[token]]\nname = "ci"\nvalue = "canary-token-3"\n'
    config = configured(tmp_path, text)
    done = await asyncio.to_thread(till, "-c", str(config.path), "doctor", "--json")
    assert done.code == 1
    assert done.json["ok"] is False
    bad = [check for check in done.json["checks"] if check["result"] != "ok"]
    assert {check["check"] for check in bad if check["result"] == "fault"} == {'receiver "hook"', "heartbeat"}
    assert [check for check in bad if not check["mend"]] == []
    shown = await asyncio.to_thread(till, "-c", str(config.path), "doctor")
    assert shown.code == 1
    assert [canary for canary in ("canary", "dGlsbHdhdGNo") if canary in done.out + done.err + shown.out + shown.err] == []


def test_a_configuration_that_cannot_be_used_is_2(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[shop]\n")
    done = till("-c", str(tmp_path / "config.toml"), "doctor", "--json")
    assert (done.code, done.out) == (2, "")


async def test_a_check_that_hangs_is_named_and_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()

    def stuck_disk(_config: Config) -> Iterator[Finding]:
        never.wait(30)
        yield Finding("x", "ok", "")

    async def stuck_network(_config: Config, _reach: Reach) -> AsyncIterator[Finding]:
        await asyncio.Event().wait()
        yield Finding("y", "ok", "")

    async def wait(checks: list[asyncio.Task[Any]], **limit: float) -> Any:
        """The limit counts when the innocent one has ended: how soon a thread is started is the machine's doing."""
        if limit:
            await asyncio.wait([check for check in checks if check.get_name() == "clock"])
            took.again()
        return await asyncio.wait(checks, **limit)
    monkeypatch.setattr(examine, "HERE", (stuck_disk, host.clock))
    monkeypatch.setattr(examine, "THERE", (stuck_network,))
    monkeypatch.setattr(examine, "asyncio", SimpleNamespace(**vars(asyncio) | {"wait": wait}))
    with Stopwatch() as took:
        found = await examine.examine(configured(tmp_path), seconds=0.3)
        assert took() < 2
    assert [(f.check, f.result) for f in found if "did not end" in f.says] == [("stuck disk", "warning"), ("stuck network", "warning")]
    assert [f.check for f in found][1] == "clock"
    never.set()


# ---- this machine ----------------------------------------------------------------------------------------------------


MOUNTS = """\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 22 0:26 / /run rw,nosuid shared:5 - tmpfs tmpfs rw
41 22 0:40 / /srv/state\\040dir rw shared:9 - nfs4 box:/export rw
42 22 0:41 / /srv rw shared:10 - xfs /dev/vdb rw
"""


@pytest.mark.parametrize(("path", "kind"), [
    ("/var/lib/tillwatch", "ext4"), ("/run/tillwatch", "tmpfs"), ("/running", "ext4"), ("/srv/state dir/x", "nfs4"), ("/srv/state", "xfs"),
    ("/", "ext4"),
])
def test_the_file_system_under_a_path(path: str, kind: str) -> None:
    assert host.file_system(Path(path), MOUNTS) == kind


def test_a_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(tmp_path)
    state = config.daemon.state_dir
    assert next(host.state_directory(config)).result == "ok"
    state.mkdir(mode=0o755)
    assert next(host.state_directory(config)).mend == f"chmod 700 {state}"
    state.chmod(0o700)
    assert next(host.state_directory(config)).result == "ok"
    state.rmdir()
    state.touch()
    assert next(host.state_directory(config)).result == "fault"
    state.unlink()
    monkeypatch.setattr(host, "file_system", lambda *_: "nfs4")
    found = list(host.state_directory(config))
    assert [(f.check, f.result) for f in found] == [("state directory", "fault")]
    assert "network file system (nfs4)" in found[0].says
    monkeypatch.setattr(host, "file_system", lambda *_: "tmpfs")
    assert [f.result for f in host.state_directory(config)] == ["ok", "warning"]


@pytest.mark.parametrize(("free", "result"), [(50e6, "fault"), (500e6, "warning"), (50e9, "ok")])
def test_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, result: str) -> None:
    monkeypatch.setattr(host.shutil, "disk_usage", lambda _path: os.terminal_size((0, 0)) and type("", (), {"free": free}))
    monkeypatch.setattr(host, "file_system", lambda *_: "ext4")
    assert list(host.state_directory(configured(tmp_path)))[1].result == result


def test_a_database(tmp_path: Path) -> None:
    config = configured(tmp_path)
    config.daemon.state_dir.mkdir()
    path = config.daemon.state_dir / "tillwatch.sqlite3"
    assert next(host.database(config)).says.startswith("there is none yet")
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    migrate(connection)
    assert next(host.database(config)).says == f"schema {len(STEPS)}, sound"
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    assert "schema 999" in next(host.database(config)).says
    assert next(host.database(config)).result == "fault"
    path.write_bytes(b"no database at all, " * 500)
    assert next(host.database(config)).result == "fault"


def test_a_damaged_database_is_found(tmp_path: Path) -> None:
    config = configured(tmp_path)
    config.daemon.state_dir.mkdir()
    path = config.daemon.state_dir / "tillwatch.sqlite3"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")                  # a commit a row: the disk of the machine is not waited for
    migrate(connection)
    connection.executemany("INSERT INTO meta VALUES (?, ?)", [(f"n{n}", "x" * 200) for n in range(500)])
    connection.close()
    whole = bytearray(path.read_bytes())
    whole[-8192:] = b"\xff" * 8192
    path.write_bytes(whole)
    found = next(host.database(config))
    assert (found.check, found.result) == ("database", "fault")


def test_a_token_that_others_can_read(tmp_path: Path) -> None:
    config = configured(tmp_path)
    assert next(host.token(config)).result == "ok"
    config.daemon.state_dir.mkdir()
    token = config.daemon.state_dir / "token"
    for held in ("", "short\n", "é" * 20):
        token.write_text(held)
        token.chmod(0o600)
        assert (next(host.token(config)).result, "no token" in next(host.token(config)).says) == ("fault", True)
    token.write_text("0123456789abcdef\n")
    assert next(host.token(config)).result == "ok"
    token.chmod(0o640)
    assert next(host.token(config)).result == "fault"


def test_a_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(tmp_path)
    for synchronised, result in ((True, "ok"), (False, "warning"), (None, "warning")):
        monkeypatch.setattr(host, "_synchronised", lambda told=synchronised: told)
        assert next(host.clock(config)).result == result
    monkeypatch.undo()
    assert host._synchronised() in {True, False, None}              # the real kernel's word
    with monkeypatch.context() as then:
        then.setattr(host.time, "time", lambda: 0.0)
        found = next(host.clock(config))
    assert (found.result, found.says) == ("fault", "it shows 1970-01-01")


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(tmp_path)
    monkeypatch.setattr(host.resource, "getrlimit", lambda _what: (400, 4096))
    monkeypatch.setattr(host, "find_spec", lambda _name: None)
    monkeypatch.setattr(host.os, "sched_getaffinity", lambda _pid: {0})
    assert [f.result for f in host.limits(config)] == ["warning"] * 3
    monkeypatch.undo()
    assert [f.check for f in host.limits(config)] == ["open files", "event loop", "processors"]


def test_the_visitors_of_the_web_server_take_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(tmp_path)
    most = config.daemon.max_concurrency.http + config.daemon.max_concurrency.other + MOST_CONNECTIONS
    for soft, result in ((most + host.SPARE_FILES, "ok"), (most, "warning")):
        monkeypatch.setattr(host.resource, "getrlimit", lambda _what, soft=soft: (soft, 1 << 20))
        assert next(host.limits(config)).result == result


@pytest.mark.parametrize(("version", "result"), [
    ((3, 40, 1), "warning"), ((3, 44, 5), "warning"), ((3, 44, 6), "ok"), ((3, 45, 0), "warning"), ((3, 50, 6), "warning"), ((3, 50, 7), "ok"),
    ((3, 51, 2), "warning"), ((3, 51, 3), "ok"), ((3, 54, 1), "ok")])
def test_versions_of_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], result: str) -> None:
    config = configured(tmp_path)
    monkeypatch.setattr(host.sqlite3, "sqlite_version_info", version)
    assert next(host.sqlite_version(config)).result == result


def test_how_long_a_page_takes(tmp_path: Path) -> None:
    assert host.worst(interval=30, timeout=10, recheck=10, failures=3, confirm=60) == 100
    assert host.worst(interval=30, timeout=10, recheck=30, failures=3, confirm=60) == 120
    assert next(host.pace(configured(tmp_path))).result == "ok"
    slow = configured(tmp_path, PROBE.format(url="http://127.0.0.1:9/") + 'interval = "20m"\n')
    assert next(host.pace(slow)).result == "warning"


def test_a_configuration_that_everybody_can_change(tmp_path: Path) -> None:
    config = configured(tmp_path)
    assert list(host.writable_configuration(config)) == []
    config.path.chmod(0o602)
    assert [f.result for f in host.writable_configuration(config)] == ["fault"]


# ---- who is told -----------------------------------------------------------------------------------------------------


def test_t85_secrets_that_are_missing_or_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        secret = folder / "hidden"
        secret.touch(mode=0o600)
        secret.write_text("canary")
        token = '[[token]]\nname = "ci"\nvalue = { env = "NOT_SET_HERE" }\n'
        config = configured(folder, PROBE.format(url="http://127.0.0.1:9/") + 'bearer_token = { file = "hidden" }\n' + token)
        secret.chmod(0o644)                                          # since the daemon was started
        found = list(alarms.credentials(config))
        assert [f.result for f in found] == ["fault", "fault"]
        assert found[0].says == 'token "ci": value: the environment variable NOT_SET_HERE is not set, or empty'
        assert str(secret) in found[1].says
        assert "canary" not in str(found)
        secret.chmod(0o600)
        monkeypatch.setenv("NOT_SET_HERE", "x")
        assert [f.result for f in alarms.credentials(config)] == ["ok"]


def test_who_is_told(tmp_path: Path) -> None:
    probe, hook = PROBE.format(url="http://127.0.0.1:9/"), WEBHOOK.format(name="hook", url="http://127.0.0.1:9/")
    nobody = list(alarms.alarms(configured(tmp_path, probe)))
    assert results(nobody) == [("alarms", "fault"), ("heartbeat", "warning")]
    alone = list(alarms.alarms(configured(tmp_path, probe, hook.replace(', "monitor_fault"', ""))))
    assert results(alone) == [("alarms", "warning"), ("alarms", "warning"), ("heartbeat", "warning"), ("alarms", "ok")]
    assert 'receiver "hook" cannot be reached' in alone[0].says
    assert 'no receiver has "monitor_fault"' in alone[1].says
    assert [f.says for f in alarms.configuration(configured(tmp_path, probe, hook))] == [f"{tmp_path / 'config.toml'}: 1 probe, 1 receiver"]
    pair = hook + 'fallback = "second"\n' + WEBHOOK.format(name="second", url="http://127.0.0.1:9/")
    assert results(list(alarms.alarms(configured(tmp_path, probe, pair, '[heartbeat]\nurl = "http://127.0.0.1:9/"\n')))) == [("alarms", "ok")]


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    command = '[[receiver]]\nname = "siren"\nkind = "command"\ncommand = ["{path}", "--loud"]\n'
    program = tmp_path / "siren"
    config = configured(tmp_path, PROBE.format(url="http://127.0.0.1:9/"), command.format(path=program))
    assert [f.result for f in alarms.programs(config)] == ["fault"]
    program.touch(mode=0o755)
    assert [f.result for f in alarms.programs(config)] == ["ok"]


def test_what_check_config_warns_of_and_no_check_says_is_said_here(tmp_path: Path) -> None:
    config = configured(tmp_path)
    assert [f.result for f in alarms.configuration(config)] == ["ok"]
    odd = config.model_copy(update={"warnings": (*config.warnings, "something odd")})
    assert next((f.result, f.says) for f in alarms.configuration(odd)) == ("warning", "something odd")


# ---- the network -----------------------------------------------------------------------------------------------------


async def test_the_daemon_on_this_machine(tmp_path: Path) -> None:
    async with serving(said={"healthy": True, "ready": True}) as well, serving(status=503, said={"healthy": False, "store": "cannot write"}) as ill:
        ports = {"well": int(well.rpartition(":")[2]), "ill": int(ill.rpartition(":")[2]), "gone": free_port()}
        told = {name: configured(tmp_path, port=port) for name, port in ports.items()}

        async def result(name: str) -> tuple[str, str]:
            found = (await findings(network.daemon, told[name]))[0]
            return found.result, found.says
        assert await result("gone") == ("warning", "none is running")
        assert (await result("well"))[0] == "fault"                  # another program has its address
        (tmp_path / "state").mkdir()
        with (tmp_path / "state" / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert (await result("well"))[0] == "ok"
            assert await result("ill") == ("fault", "it runs, and says that it is not healthy: store cannot write")
            assert (await result("gone"))[0] == "fault"
        assert (await result("gone"))[0] == "warning"


async def test_receivers_that_cannot_be_reached(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with serving() as there, serving(context) as secure:
        gone = f"http://127.0.0.1:{free_port()}"
        peers = f'[[receiver]]\nname = "am"\nkind = "alertmanager"\npeers = ["{there}", "{gone}"]\n'
        hooks = (WEBHOOK.format(name="there", url=there) + WEBHOOK.format(name="gone", url=gone) + WEBHOOK.format(name="strange", url=secure)
                 + WEBHOOK.format(name="trusted", url=secure) + 'ca_file = "ca.pem"\n')
        found = await findings(network.receivers, configured(tmp_path, PROBE.format(url="http://127.0.0.1:9/"), peers, hooks))
        assert results(found) == [('receiver "am"', "warning"), ('receiver "there"', "ok"), ('receiver "gone"', "fault"),
                                  ('receiver "strange"', "fault"), ('receiver "trusted"', "ok")]
        assert "refused the connection" in found[2].says
        assert "certificate refused" in found[3].says


async def test_names_and_a_watcher_on_the_shop_s_own_machine(tmp_path: Path) -> None:
    elsewhere = await findings(network.names, configured(tmp_path, url="http://192.0.2.7/"))
    assert results(elsewhere) == [("names", "ok"), ("apart from the shop", "ok")]
    here = await findings(network.names, configured(tmp_path, url="http://127.0.0.1/"))
    assert results(here) == [("names", "ok"), ("apart from the shop", "warning")]
    nowhere = await findings(network.names, configured(tmp_path, url="https://shop.example/"))
    assert results(nowhere) == [("names", "fault")]                  # no name server: of where the shop is nothing is said
    assert "no name server of this machine could be reached" in nowhere[0].says


def test_which_addresses_are_this_machine_s_own() -> None:
    assert network.is_own("127.0.0.1")
    assert not network.is_own("192.0.2.7")
    assert not network.is_own("2001:db8::7")


@pytest.mark.parametrize(("days", "trusted", "result"), [(60, True, "ok"), (5, True, "warning"), (-1, True, "fault"), (60, False, "fault")])
async def test_certificates(tmp_path: Path, days: int, trusted: bool, result: str) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    now = datetime.now(UTC)
    authority.issue_cert("127.0.0.1", not_before=now - timedelta(days=90), not_after=now + timedelta(days=days, hours=1)).configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with serving(context) as shop:
        tls = 'tls = { ca_file = "ca.pem" }\n' if trusted else ""
        found = await findings(network.certificates, configured(tmp_path, PROBE.format(url=shop + "/") + tls))
        assert results(found) == [("certificates", result)]


async def test_witnesses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on this machine is no witness: here it is taken for one."""
    assert await findings(network.uplink, configured(tmp_path)) == []               # the shop is on this machine
    far = {"url": "http://192.0.2.7/"}
    assert [f.result for f in await findings(network.uplink, configured(tmp_path, **far))] == ["warning"]
    async with serving() as one, serving() as two:
        places = [("127.0.0.1", int(url.rpartition(":")[2])) for url in (one, two)]
        alone, nobody = places[:1], [("shop.example", 80)]
        for known, result, says in ((places, "ok", "2 of 2"), (alone, "warning", "only 127.0.0.1"), (nobody, "warning", "none of 1")):
            monkeypatch.setattr(network, "witnesses", lambda _config, known=known: known)
            found = await findings(network.uplink, configured(tmp_path, **far))
            assert [f.result for f in found] == [result]
            assert says in found[0].says


async def test_silence_is_an_end_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        found = await findings(network.certificates, configured(tmp_path, url=url))
    assert [(f.result, "no answer within" in f.says) for f in found] == [("warning", True)]


def test_the_documented_json_is_what_is_printed(tmp_path: Path) -> None:
    config = configured(tmp_path)
    done = till("-c", str(config.path), "doctor", "--json")
    assert json.loads(done.out)["checks"][0].keys() == {"check", "result", "says", "mend"}
