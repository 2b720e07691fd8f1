"""What is accepted, and what it comes to."""

import asyncio
import json
import re
import tempfile
import tomllib
from pathlib import Path

import pytest

from monitor.config import ConfigError, load, probe_model, schema, secrets
from monitor.witnesses import near, witnesses
from probes.table import PROBES

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "config.toml"
RAW = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
SECRETS = re.findall(r'env = "(\w+)"', re.sub(r"#.*", "", SHIPPED.read_text(encoding="utf-8")))


@pytest.fixture(autouse=True)
def _no_secrets(monkeypatch):
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)


def test_the_shipped_example_is_accepted(tillwatch):
    answer = tillwatch("-c", SHIPPED, "check-config")
    assert answer.code == 0
    first, second = answer.out.splitlines()
    assert first == f"{SHIPPED}: ok ({len(RAW['probe'])} probes, {len(RAW['receiver'])} receivers)"
    assert re.fullmatch(r"update: a pass takes about \d+ min after finish and warm-up, at most 2 h, when the past is clean", second)


def test_the_shipped_example_warns_of_each_secret_that_cannot_be_read_here_and_of_nothing_else(tillwatch, monkeypatch):
    lines = tillwatch("-c", SHIPPED, "check-config").err.splitlines()
    assert {'warning: probe "payment-api": bearer_token: the environment variable PAYMENT_HEALTH_TOKEN is not set, or empty',
            'warning: token "ci": value: the environment variable TILLWATCH_CI_TOKEN is not set, or empty'} <= set(lines)
    assert sorted(re.findall(r"environment variable (\w+) is not set", "".join(lines))) == sorted(SECRETS)
    assert len(lines) == len(SECRETS) >= 4
    for name in SECRETS:
        monkeypatch.setenv(name, "whsec_eA==")
    assert tillwatch("-c", SHIPPED, "check-config").err == ""


def test_json_says_what_there_is_and_keeps_quiet_elsewhere(tillwatch):
    answer = tillwatch("-c", SHIPPED, "check-config", "--json")
    document = json.loads(answer.out)
    assert (answer.code, answer.err) == (0, "")
    assert (document["ok"], document["probes"], document["receivers"], len(document["warnings"])) == (
        True, len(RAW["probe"]), len(RAW["receiver"]), len(SECRETS))


def test_the_shipped_example_shows_every_kind_that_exists():
    from monitor.alerts.table import RECEIVERS
    assert {p["kind"] for p in RAW["probe"]} == set(PROBES)
    assert {r["kind"] for r in RAW["receiver"]} == set(RECEIVERS)


def test_the_defaults_that_the_shipped_example_shows_are_those_of_an_empty_one(home, tmp_path):
    shipped, bare = load(SHIPPED), load(home())
    assert shipped.update == bare.update
    assert shipped.web == bare.web
    assert (shipped.heartbeat.interval, bare.heartbeat, bare.daemon.uplink) == (60.0, None, ())
    assert shipped.daemon.model_dump(exclude={"state_dir", "uplink"}) == bare.daemon.model_dump(exclude={"state_dir", "uplink"})
    for name in ("interval", "timeout", "failures", "of", "confirm", "recheck", "urgency"):
        assert getattr(shipped.probe[0], name) == getattr(bare.probe[0], name), name


def test_run_refuses_a_secret_that_cannot_be_read(tillwatch, home, monkeypatch, tmp_path):
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    monkeypatch.setattr("monitor.app.run", _on_plain_asyncio)
    monkeypatch.setattr("monitor.logs.configure", lambda *_: None)
    config = home('bearer_token = { env = "NOT_SET_HERE" }\n\n[web]\nlisten = "127.0.0.1:0"\n')
    assert tillwatch("-c", config, "check-config").code == 0
    answer = tillwatch("-c", config, "run")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == 'tillwatch: probe "home": bearer_token: the environment variable NOT_SET_HERE is not set, or empty\n'
    assert not (tmp_path / "state").exists()


def _on_plain_asyncio(config):
    from monitor.app import Daemon

    async def main():
        await Daemon(config).run()

    asyncio.run(main())


def test_run_refuses_what_check_config_refuses_with_the_same_words(tillwatch, home):
    config = home("intervall = 3\n")
    checked, started = tillwatch("-c", config, "check-config"), tillwatch("-c", config, "run")
    assert started.code == 2
    assert started.err.splitlines()[0] == checked.err.splitlines()[0]


def test_a_secret_is_read_from_a_file_beside_the_configuration_or_from_systemd(home, tmp_path, monkeypatch):
    (tmp_path / "token.txt").write_text("from file\n")
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "ci").write_text("from systemd\n")
    config = load(home('bearer_token = { file = "token.txt" }\n\n[[token]]\nname = "ci"\nvalue = { credential = "ci" }\n'))
    assert config.warnings[0] == 'token "ci": value: credential ci: no CREDENTIALS_DIRECTORY (not started by systemd?)'
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    assert {where: secret.reveal() for where, secret in secrets(config)} == {
        'probe "home": bearer_token': "from file", 'token "ci": value': "from systemd"}


def test_every_documented_key_that_exists_now_is_accepted(home, tmp_path):
    config = load(home(_EVERYTHING, mode=0o600))
    probe = config.probe[0]
    assert (probe.interval, probe.timeout, probe.confirm, probe.recheck) == (0.25, 0.2, 60.0, 10.0)
    assert probe.expect.json_ == {"status.indicator": "none", "ok": True, "items.0.price": 9.5}
    assert probe.max_body == 2_000_000
    assert probe.margin.success == 0.2
    assert config.update.observe == 1800.0
    assert config.web.tls.cert_file == tmp_path / "tls.crt"
    assert config.daemon.state_dir == tmp_path / "state"
    assert config.token[0].scopes == ("read", "update", "operate", "admin")


_EVERYTHING = """
interval = "250ms"
timeout = "200ms"
failures = 2
of = 2
confirm = "1m"
recheck = "10s"
urgency = "ticket"
critical = true
means = "customers cannot pay"
margin = { success = 0.20, p50 = 0.5, p95 = 1 }
method = "POST"
headers = { Accept-Language = "de", X-Api-Key = { env = "KEY" } }
body = "{}"
basic_auth = { username = "x", password = "y" }
follow_redirects = false
max_redirects = 0
ip_family = "ipv4"
connect_to = "10.0.0.5:443"
max_body = "2MB"
tls = { ca_file = "ca.pem", cert_file = "c.pem", key_file = "k.pem", server_name = "shop.example", insecure_skip_verify = false, min_days_left = 14 }

[probe.expect]
status = [200, 201]
body_contains = ["a"]
body_not_contains = "b"
body_matches = ['c+']
header_matches = { Server = "nginx" }
json = { status = { indicator = "none" }, ok = true, "items.0.price" = 9.5 }
final_url = "https://shop.example/*"
content_type = "application/json"
max_duration = "150ms"

[daemon]
state_dir = "state"
log_format = "json"
retention = "14d"
max_concurrency = { http = 10, browser = 2, other = 3 }

[web]
listen = "0.0.0.0:9464"
tls = { cert_file = "tls.crt", key_file = "tls.key" }
url = "https://tillwatch.example"

[[token]]
name = "ci"
value = { env = "TOKEN" }
scopes = ["read", "update", "operate", "admin"]

[[receiver]]
name = "am"
kind = "alertmanager"
peers = ["http://127.0.0.1:9093"]
on = ["outage", "regression", "update", "monitor_fault", "announcement"]
urgency = "ticket"

[update]
baseline = "14d"
warm_up = "2m"
observe = "30m"
attribute_for = "7d"
expire_after = "2h"
interval_factor = 1
bursts_per_day = 0
false_alarm_rate = 0.05
shadow_until = "2026-12-24"
margin = { success = 0.05, p50 = 0.20, p95 = 0.30 }
"""


def test_a_probe_overrides_the_defaults_and_inherits_the_rest(written):
    config = load(written(
        '[shop]\nname = "s"\nurl = "https://s.example"\n[defaults]\ninterval = "20s"\nof = 10\nurgency = "ticket"\n'
        '[[probe]]\nname = "a"\nkind = "http"\nurl = "https://s.example/"\n'
        '[[probe]]\nname = "b"\nkind = "http"\nurl = "https://s.example/"\ninterval = "1m"\nurgency = "page"\n'))
    assert [(p.interval, p.timeout, p.of, p.urgency) for p in config.probe] == [(20.0, 10.0, 10, "ticket"), (60.0, 10.0, 10, "page")]


def test_a_listener_on_loopback_needs_no_certificate(home):
    for address in ("127.0.0.1:9464", "localhost:9464", "[::1]:9464", "127.8.8.8:1"):
        assert load(home(f'\n[web]\nlisten = "{address}"\n')).web.listen == address


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(home):
    text = home('timout = "5s"\n').read_bytes().replace(b"\n", b"\r\n")
    path = home()
    path.write_bytes(b"\xef\xbb\xbf" + text)
    with pytest.raises(ConfigError) as error:
        load(path)
    assert [(p.line, p.path) for p in error.value.problems] == [(9, "probe[0].timout")]


def test_a_canary_beside_its_control_cohort_is_accepted(home):
    extra = '\n[[probe]]\nname = "canary"\nkind = "http"\nurl = "https://shop.example/"\ncohort = "canary"\nconnect_to = "10.0.0.5:443"\n'
    assert [p.cohort for p in load(home(extra)).probe] == ["", "canary"]


def test_settings_are_frozen(home):
    config = load(home())
    with pytest.raises(ValueError, match="frozen"):
        config.probe[0].interval = 1.0


def test_the_interfaces_own_name_for_the_daemon_url_is_the_listener(home):
    assert load(home('\n[web]\nlisten = "127.0.0.1:7777"\n')).web.base == "http://127.0.0.1:7777"


def test_every_kind_of_probe_has_what_every_probe_has():
    for kind in PROBES:
        assert {"name", "kind", "interval", "timeout", "failures", "of", "confirm", "recheck", "urgency", "critical", "control", "cohort", "margin"} \
            <= probe_model(kind).model_fields.keys(), kind


def test_the_line_of_each_problem_is_right_wherever_its_table_stands(home):
    """One wrong key at the end of each of many probes."""
    probes = "".join(f'\n[[probe]]\nname = "p{i}"\nkind = "http"\nurl = "https://shop.example/{i}"\nwrong{i} = 1\n' for i in range(50))
    path = home(probes)
    lines = path.read_text().splitlines()
    with pytest.raises(ConfigError) as error:
        load(path)
    assert len(error.value.problems) == 50
    for problem in error.value.problems:
        assert re.match(rf"{problem.path.split('.')[1]} = 1", lines[problem.line - 1])


def test_a_thousand_probes_are_read_in_a_moment(home):
    import time
    probes = "".join(f'\n[[probe]]\nname = "p{i}"\nkind = "http"\nurl = "https://shop.example/{i}"\n' for i in range(1000))
    path, begun = home(probes), time.process_time()
    assert len(load(path).probe) == 1001
    assert time.process_time() - begun < 3.0


def test_schema_is_printed_without_a_configuration(tillwatch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = tillwatch("check-config", "--schema")
    assert answer.code == 0
    assert json.loads(answer.out) == schema()


def test_warnings_are_given_of_what_was_hardly_meant(home):
    """Nobody hears; nothing tells a lost network from an outage."""
    assert load(home()).warnings == (
        "there is no [[receiver]]: nobody is told of anything",
        ("daemon.uplink: no address beside the shop can tell whether this monitor itself has lost its network, which will look like an outage of "
         'the shop: set uplink = ["1.1.1.1:53", "9.9.9.9:53"]'))
    deaf = '\n[[receiver]]\nname = "am"\nkind = "alertmanager"\npeers = ["http://am.example:9093"]\non = ["update"]\n'
    assert load(home(deaf)).warnings == (
        'no receiver has "outage" in its `on`: nobody is told of an outage',
        'no receiver has "regression" in its `on`: nobody is told of a regression',
        'no receiver has "monitor_fault" in its `on`: nobody is told of probes that cannot be measured',
        ("daemon.uplink: only one address beside the shop can tell whether this monitor itself has lost its network: when it goes down "
         'together with the shop, nobody may be told. Set uplink = ["1.1.1.1:53", "9.9.9.9:53"]'))
    heard = deaf.replace('"update"', '"outage", "regression", "monitor_fault"')
    assert load(home('\n[daemon]\nuplink = ["1.1.1.1:53"]\n' + heard)).warnings == ()


def test_a_certificate_that_is_not_on_this_machine_is_warned_of(home):
    config = load(home('tls = { ca_file = "ca.pem", cert_file = "client.pem" }\n'))
    assert 'probe "home": tls.ca_file: cannot be read: No such file or directory' in config.warnings


def test_a_shop_on_this_machine_needs_no_witness(written):
    shop = '[shop]\nname = "s"\nurl = "http://localhost/"\n[[probe]]\nname = "p"\nkind = "http"\nurl = "http://127.0.0.1:8080/"\n'
    assert load(written(shop)).warnings == ("there is no [[receiver]]: nobody is told of anything",)


WITNESSED = """\
[daemon]
uplink = ["1.1.1.1:53", "https://shop.example/", "127.0.0.1:80", "https://up.example"]
[heartbeat]
url = {{ file = "{file}" }}
[[probe]]
name = "canary"
kind = "http"
url = "https://shop.example/"
cohort = "canary"
connect_to = "10.0.0.5:443"
[[probe]]
name = "psp"
kind = "http"
url = "https://status.psp.example/"
control = true
[[receiver]]
name = "am"
kind = "alertmanager"
peers = ["http://127.0.0.1:9093", "http://am.example:9093", "http://10.0.0.5:9093"]
runbook = "https://wiki.example/"
[[receiver]]
name = "mail"
kind = "email"
host = "smtp.example"
from = "t@shop.example"
to = ["o@shop.example"]
"""


def test_witnesses_are_all_addresses_but_the_shop_s_and_this_machine_s(home, tmp_path):
    (tmp_path / "ping").write_text("https://hc.example/ping/key\n")
    (tmp_path / "ping").chmod(0o600)
    config = load(home("\n" + WITNESSED.format(file="ping")))
    assert witnesses(config) == (
        ("1.1.1.1", 53), ("up.example", 443), ("status.psp.example", 443), ("am.example", 9093), ("smtp.example", 587), ("hc.example", 443))
    assert "ping/key" not in repr(witnesses(config))
    assert near(config) == frozenset()


def test_a_heartbeat_is_a_secret_or_a_plain_address(home, monkeypatch):
    monkeypatch.delenv("HC", raising=False)
    plain = load(home('\n[heartbeat]\nurl = "https://hc.example/ping/key"\n'))
    assert (plain.heartbeat.url.reveal(), plain.heartbeat.interval) == ("https://hc.example/ping/key", 60.0)
    assert "ping/key" not in repr(plain)
    missing = load(home('\n[heartbeat]\nurl = { env = "HC" }\ninterval = "5m"\n'))
    assert "heartbeat: url: the environment variable HC is not set, or empty" in missing.warnings


@pytest.fixture
def open_folder():
    """Where everybody can go: pytest's own folders are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def test_t85_a_secret_that_everybody_can_read_is_refused(home, open_folder, tillwatch):
    secret = open_folder / "token.txt"
    secret.write_text("hunter2\n")
    config = home(f'bearer_token = {{ file = "{secret}" }}\n')
    for mode, code in ((0o644, 2), (0o640, 0), (0o604, 2), (0o600, 0)):
        secret.chmod(mode)
        answer = tillwatch("-c", config, "check-config")
        assert answer.code == code, oct(mode)
        assert ("everybody on this host can read the secret in" in answer.err) is (code == 2)
    secret.chmod(0o644)
    open_folder.chmod(0o750)                                    # nobody else gets so far
    assert tillwatch("-c", config, "check-config").code == 0
