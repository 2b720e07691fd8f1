"""The units as docs/install.md has them installed, on a systemd that is really booted. The tests build on each other, in order."""

import json
import os
import re
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trustme
from machine import ROOT, Machine, until, waited
from standardwebhooks.webhooks import Webhook

pytestmark = pytest.mark.timeout(240)

HERE = Path(__file__).parent
DAEMON, FAILED = "tillwatch.service", "tillwatch-failed.service"
METRICS = "http://127.0.0.1:9464/metrics"
CONFIG = """
[shop]
name = "booted-shop"
url = "http://shop.example:8000/"

[daemon]
state_dir = "/var/lib/tillwatch"

[defaults]
interval = "1s"
timeout = "900ms"

[[receiver]]
name = "hook"
kind = "webhook"
url = "http://hooks.example:8001/"
secret = { credential = "tillwatch_webhook" }

[[probe]]
name = "home"
kind = "http"
url = "http://shop.example:8000/"
expect = { body_matches = ['Add\\s+to basket'] }

[[probe]]
name = "secure"
kind = "http"
url = "https://shop.example:8443/"
tls = { ca_file = "/etc/tillwatch/ca.pem" }
"""
BUY = """
[browser]
socket = "/run/tillwatch-browser/socket"

[[probe]]
name = "buy"
kind = "checkout"
url = "http://shop.example:8000/"
interval = "4s"
timeout = "4s"
step_timeout = "3s"
stop_before = ""

[[probe.step]]
name = "home"
do = [{ goto = "/" }, { pause = "500ms" }, { see = "button: Add to basket" }]
"""
BROWSER = "tillwatch-browser.service"
READER = """
[Service]
Type=oneshot
Restart=no
WatchdogSec=0
RemainAfterExit=yes
ExecStart=
ExecStart=/bin/sh -c '%s'
"""
_DONE: set[str] = set()


@cache
def commands() -> dict[str, list[str]]:
    """The shell blocks of docs/install.md by the heading that they stand under."""
    text = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return {title: re.findall(r"^```sh\n(.*?)^```$", body, re.MULTILINE | re.DOTALL) for title, body in zip(parts[1::2], parts[2::2], strict=True)}


def follow(machine: Machine, heading: str, number: int = 0) -> str:
    """Do as the documentation says; what that prints."""
    script = commands()[heading][number]
    _DONE.add(script)
    return machine.run(script).stdout


def active(machine: Machine, unit: str = DAEMON) -> bool:
    return machine.show(unit, "ActiveState") == "active"


def letters(machine: Machine) -> list[dict[str, Any]]:
    """All that the inbox has got, oldest first."""
    return [json.loads(line) for line in machine.run("for f in /srv/inbox/*.json; do [ ! -e $f ] || { cat $f; echo; }; done").stdout.splitlines()]


def runs(machine: Machine, probe: str) -> float:
    """How often the probe was ok, by the metrics."""
    found = re.search(rf'^tillwatch_probe_runs_total{{(?=.*outcome="ok").*probe="{probe}".*}} (\S+)$', machine.get(METRICS)[1], re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.fixture(scope="module")
def street(machine: Machine) -> None:
    """Shop, inbox and name server on the machine; pip installs from /wheels and apt has nothing to do."""
    authority = trustme.CA()
    server = authority.issue_cert("shop.example")
    machine.write("/srv/tls.pem", server.private_key_and_cert_chain_pem.bytes().decode())
    machine.write("/srv/ca.pem", authority.cert_pem.bytes().decode())
    machine.write("/srv/neighbours.py", (HERE / "neighbours.py").read_text(encoding="utf-8"))
    machine.run("rm -f /etc/resolv.conf; echo nameserver 127.0.0.1 > /etc/resolv.conf")
    machine.write("/etc/pip.conf", "[global]\nno-index = true\nfind-links = /wheels\ndisable-pip-version-check = true\n")
    machine.run("printf '#!/bin/sh\\nexec dpkg-query -W \"$3\" >/dev/null\\n' > /usr/local/sbin/apt-get; chmod +x /usr/local/sbin/apt-get")
    machine.run("systemd-run --quiet --unit=street /usr/bin/python3 /srv/neighbours.py")
    until(lambda: machine.get("http://127.0.0.1:8000/")[0] == 200, 30, "the shop serves")


def test_it_is_installed_as_documented(machine: Machine, street: None) -> None:
    follow(machine, "Install")
    modes = machine.run("stat -c '%a %U:%G' /etc/tillwatch /etc/tillwatch/credentials").stdout.splitlines()
    assert modes == ["750 root:tillwatch", "700 root:root"]
    assert machine.run("getent passwd tillwatch").stdout.strip().endswith("nologin")
    machine.run("systemd-analyze verify /etc/systemd/system/tillwatch*.service")


def test_it_is_ready_and_its_probes_run_by_name_and_over_tls(machine: Machine) -> None:
    machine.write("/etc/tillwatch/config.toml", CONFIG)
    machine.run("cp /srv/ca.pem /etc/tillwatch/; chmod 600 /etc/tillwatch/config.toml; chmod 644 /etc/tillwatch/ca.pem")
    follow(machine, "Configure")
    assert machine.run("stat -c '%a %U:%G' /etc/tillwatch/config.toml").stdout.strip() == "640 root:tillwatch"
    follow(machine, "Secrets")
    assert "active (running)" in follow(machine, "Start")
    assert machine.show(DAEMON, "Type") == "notify"
    until(lambda: min(runs(machine, "home"), runs(machine, "secure")) >= 2, 60, "both probes run")
    assert '"event": "ready"' in follow(machine, "Start", 1)


def test_it_starts_with_every_extension_in_the_sandbox(machine: Machine) -> None:
    """uvloop, c-ares, re2, SQLite, OpenSSL and pydantic: all mapped, and none of them needed memory that is writable and executable."""
    maps = machine.run(f"cat /proc/{machine.show(DAEMON, 'MainPID')}/maps").stdout
    for extension in ("uvloop", "cares", "re2", "_sqlite3", "_ssl", "pydantic_core", "_http_parser"):
        assert extension in maps, extension
    assert not re.search(r" rwx", maps)
    status = machine.run(f"cat /proc/{machine.show(DAEMON, 'MainPID')}/status").stdout
    assert re.search(r"CapBnd:\s+0+$", status, re.MULTILINE)
    assert re.search(r"NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert re.search(r"Seccomp:\s+2$", status, re.MULTILINE)


def test_it_is_as_closed_as_is_said(machine: Machine) -> None:
    for unit in (DAEMON, FAILED, "tillwatch@shoes.service", "tillwatch-failed@shoes.service"):
        machine.run(f"systemd-analyze security --threshold=15 --no-pager {unit} >/dev/null")


def test_secrets_are_copies_that_only_the_daemon_may_read(machine: Machine) -> None:
    where = f"/run/credentials/{DAEMON}"
    assert machine.run(f"stat -c %a {where}/tillwatch_webhook").stdout.strip() in {"400", "440"}
    copy = machine.run(f"runuser -u tillwatch -- cat {where}/tillwatch_webhook").stdout
    assert copy == machine.run("cat /etc/tillwatch/credentials/webhook").stdout
    assert machine.run(f"runuser -u nobody -- cat {where}/tillwatch_webhook", check=False).returncode
    assert machine.run("runuser -u tillwatch -- cat /etc/tillwatch/credentials/webhook", check=False).returncode
    assert "delivered" in follow(machine, "Secrets", 1)
    verified(machine, letters(machine)[-1])


def verified(machine: Machine, letter: dict[str, Any]) -> dict[str, Any]:
    """The body of a webhook that was signed with the secret of now."""
    secret = machine.run("cat /etc/tillwatch/credentials/webhook").stdout.strip()
    body: dict[str, Any] = Webhook(secret).verify(letter["body"], letter["headers"])
    return body


def test_a_secret_is_changed_by_a_restart(machine: Machine) -> None:
    old = machine.run("cat /etc/tillwatch/credentials/webhook").stdout
    follow(machine, "Secrets")
    machine.run("systemctl restart tillwatch")
    assert machine.run("cat /run/credentials/tillwatch.service/tillwatch_webhook").stdout != old
    follow(machine, "Secrets", 1)
    verified(machine, letters(machine)[-1])


def test_a_hang_is_ended_with_the_stacks_in_the_journal(machine: Machine) -> None:
    machine.write("/etc/systemd/system/tillwatch.service.d/test.conf", "[Service]\nWatchdogSec=5\n")
    machine.run("systemctl daemon-reload; systemctl restart tillwatch")
    took = hung(machine)
    assert took <= 10
    machine.run("rm -r /etc/systemd/system/tillwatch.service.d; systemctl daemon-reload; systemctl restart tillwatch")


@pytest.mark.skipif(not os.environ.get("TILLWATCH_SLOW_TESTS"), reason="a hang at the shipped WatchdogSec takes 30 s: TILLWATCH_SLOW_TESTS=1 runs it")
def test_a_hang_is_over_within_35_seconds_as_shipped(machine: Machine) -> None:
    assert machine.show(DAEMON, "WatchdogUSec") == "30s"
    assert hung(machine) <= 35


def hung(machine: Machine) -> float:
    """Stop the whole process; s until another one is ready by systemd's word, without what the machine withheld from that one."""
    time.sleep(1)
    before, seen = machine.show(DAEMON, "MainPID"), len(machine.journal(DAEMON))
    begun = time.monotonic()
    machine.run(f"kill -STOP {before}")
    until(lambda: active(machine) and machine.show(DAEMON, "MainPID") not in {before, "0"}, 60, "another process is ready")
    ready = int(machine.show(DAEMON, "ActiveEnterTimestampMonotonic")) / 1e6
    withheld = int(machine.run(f"cat /proc/{machine.show(DAEMON, 'MainPID')}/schedstat").stdout.split()[1]) / 1e9
    news = machine.journal(DAEMON)[seen:]
    assert "Watchdog timeout" in news
    assert "Fatal Python error: Aborted" in news
    # systemd lets a stopped process run on before it takes the dump: what moves then may be cut short. tests/life holds the whole dump.
    assert re.search(r'File ".*/monitor/(app|store/writer)\.py", line \d+ in _?run', news), news
    assert machine.show(DAEMON, "NRestarts") == "1"
    return ready - begun - withheld


def test_a_good_reload_is_taken_without_a_restart(machine: Machine) -> None:
    before = machine.show(DAEMON, "MainPID")
    machine.write("/etc/tillwatch/config.toml", CONFIG + '\n[[probe]]\nname = "added"\nkind = "http"\nurl = "http://127.0.0.1:8000/"\n')
    follow(machine, "Change the configuration")
    until(lambda: runs(machine, "added") >= 1, 30, "the new probe runs")
    assert machine.show(DAEMON, "MainPID") == before
    assert active(machine)


def test_a_bad_reload_fails_and_changes_nothing(machine: Machine) -> None:
    before, seen = machine.show(DAEMON, "MainPID"), len(machine.journal(DAEMON))
    machine.run("echo 'intervall = \"5s\"' >> /etc/tillwatch/config.toml")
    done = machine.run("systemctl reload tillwatch", check=False)
    assert done.returncode != 0
    assert "did you mean" in machine.journal(DAEMON)[seen:]
    now = runs(machine, "home")
    until(lambda: runs(machine, "home") > now, 30, "it goes on")
    assert (machine.show(DAEMON, "MainPID"), active(machine)) == (before, True)
    machine.write("/etc/tillwatch/config.toml", CONFIG)
    machine.run("systemctl reload tillwatch")


def test_many_baselines_are_frozen_in_the_sandbox(machine: Machine) -> None:
    """With more than a few targets that is done by a process of its own, which lowers its priority."""
    more = "".join(f'\n[[probe]]\nname = "p{i}"\nkind = "http"\nurl = "http://127.0.0.1:8000/{i}"\n' for i in range(25))
    machine.write("/etc/tillwatch/config.toml", CONFIG + more)
    machine.run("systemctl restart tillwatch; tillwatch update start 1.0; tillwatch update cancel")


def test_several_shops_run_beside_each_other(machine: Machine) -> None:
    follow(machine, "Several shops")
    text = CONFIG.replace("/var/lib/tillwatch", "/var/lib/tillwatch-shoes").replace("[defaults]", '[web]\nlisten = "127.0.0.1:9465"\n[defaults]')
    machine.write("/etc/tillwatch/shoes/config.toml", text)
    machine.run("cp /etc/tillwatch/credentials/webhook /etc/tillwatch/shoes/credentials/")
    follow(machine, "Several shops", 1)
    assert active(machine, "tillwatch@shoes.service")
    assert machine.get("http://127.0.0.1:9465/-/ready")[0] == 200
    assert machine.run("stat -c '%a %U' /var/lib/tillwatch /var/lib/tillwatch-shoes").stdout.split("\n")[:2] == ["700 tillwatch", "700 tillwatch"]


def test_a_crash_loop_ends_in_one_message_without_the_daemon(machine: Machine) -> None:
    """Another shop on a port that is taken: it can never start."""
    machine.run("systemctl stop tillwatch@shoes; sed -i s/127.0.0.1:9465/127.0.0.1:9464/ /etc/tillwatch/shoes/config.toml; rm -f /srv/inbox/*")
    begun, kept = time.monotonic(), waited()
    assert machine.run("systemctl start tillwatch@shoes", check=False).returncode != 0
    assert time.monotonic() - begun - (waited() - kept) < 5
    assert "address already in use" in machine.journal("tillwatch@shoes.service")
    until(lambda: letters(machine), 45, "somebody is told", every=0.3)
    until(lambda: machine.show("tillwatch-failed@shoes.service", "ActiveState") == "inactive", 30, "the last words are said")
    assert machine.show("tillwatch@shoes.service", "ActiveState") == "failed"
    (letter,) = letters(machine)
    page = verified(machine, letter)["data"]
    host = machine.run("hostname").stdout.strip()
    assert page["kind"] == "monitor_fault"
    assert re.fullmatch(rf"Tillwatch itself has stopped on {host} \(tillwatch@shoes\.service, exit code 2, \d restarts did not help\): "
                        "the shop is not watched", page["sentence"])
    assert active(machine)
    machine.run("systemctl disable --now --quiet tillwatch@shoes; systemctl reset-failed")


def test_a_broken_configuration_is_a_crash_loop_of_which_all_are_told(machine: Machine) -> None:
    machine.run("rm -f /srv/inbox/*; sed -i 's/^kind = .http./kind = \"htpp\"/' /etc/tillwatch/config.toml")
    machine.run("systemctl restart tillwatch", check=False)
    until(lambda: letters(machine), 45, "somebody is told", every=0.3)
    assert machine.show(DAEMON, "ActiveState") == "failed"
    assert len(letters(machine)) == 1
    machine.write("/etc/tillwatch/config.toml", CONFIG)
    follow(machine, "When it hangs or dies")
    assert active(machine)


def test_logs_are_read_with_the_drop_ins_and_only_with_them(machine: Machine) -> None:
    """Read by a process in the same sandbox, which stands in for the daemon."""
    machine.run("install -d -m 700 /home/shop /home/other; install -d /home/shop/logs; echo oops > /home/shop/logs/error.log; "
                "chmod 640 /home/shop/logs/error.log; install -m 640 -g adm /dev/null /var/log/shop.log; echo oops > /var/log/shop.log")
    tried = "cat /var/log/shop.log; cat /home/shop/logs/error.log; journalctl --quiet --no-pager --lines=1 --unit=street --grep=Started; ls /home"
    assert read(machine, tried) == []
    follow(machine, "Reading logs")
    assert active(machine)
    follow(machine, "Reading logs", 1)
    follow(machine, "Reading logs", 2)
    assert active(machine)
    found = read(machine, tried)
    assert found[:2] == ["oops", "oops"]
    assert "Started" in found[2]
    assert found[3:] == ["shop"]
    assert read(machine, "touch /home/shop/logs/x || ls /home/shop") == ["logs"]


def read(machine: Machine, script: str) -> list[str]:
    """What a script prints in the sandbox of the unit."""
    machine.write("/etc/systemd/system/tillwatch.service.d/zz-test.conf", READER % script)
    machine.run("systemctl stop tillwatch; systemctl daemon-reload; mkdir -p /run/reader; systemctl start tillwatch || true")
    identifier = machine.show(DAEMON, "InvocationID")
    lines = machine.run(f"journalctl --sync; journalctl --quiet --no-pager --output=cat _SYSTEMD_INVOCATION_ID={identifier}").stdout.splitlines()
    machine.run("rm /etc/systemd/system/tillwatch.service.d/zz-test.conf; systemctl stop tillwatch; systemctl daemon-reload; systemctl reset-failed; "
                "systemctl start tillwatch")
    return [line for line in lines if not re.search("denied|No such file|cannot|insufficient permissions|tillwatch.service", line)]


def test_a_browser_in_its_own_sandbox_buys_for_the_daemon(machine: Machine) -> None:
    """From inside the daemon's unit, through the socket, in the browser's unit."""
    machine.write("/etc/tillwatch/config.toml", CONFIG + BUY.replace('socket = "/run/tillwatch-browser/socket"', ""))
    told = json.loads(machine.run("tillwatch doctor --json", check=False).stdout)["checks"]
    closed = [check for check in told if check["check"] == "browser" and "no browser can run in tillwatch.service" in check["says"]]
    assert [(check["result"], "systemctl enable --now tillwatch-browser" in check["mend"]) for check in closed] == [("fault", True)]
    follow(machine, "The browser")
    machine.write("/etc/tillwatch/config.toml", CONFIG + BUY)
    machine.run("systemctl reload tillwatch")
    until(lambda: runs(machine, "buy") >= 1, 60, "the shop is walked through: " + machine.journal(BROWSER)[-1000:])
    told = json.loads(machine.run("tillwatch doctor --json", check=False).stdout)["checks"]
    assert [(check["result"], check["says"]) for check in told if check["check"] == "browser"] == [
        ("ok", "chromium behind /run/tillwatch-browser/socket starts and runs scripts, in its own sandbox")]


def inside(machine: Machine) -> dict[str, dict[str, str]]:
    """The processes of the browser's unit by kind: "" is the service itself; of each its namespaces, seccomp filters and user.

    Without those that ended, or had only just begun, while they were looked at.
    """
    pid = machine.show(BROWSER, "MainPID")
    script = ("for p in /proc/[0-9]*; do grep -qs tillwatch-browser.service $p/cgroup || continue; "
              "echo \"${p#/proc/}|$(tr '\\0' ' ' < $p/cmdline | grep -o -e '--type=[a-z]*' | head -1)|"
              "user $(readlink $p/ns/user)|pid $(readlink $p/ns/pid)|"
              "net $(readlink $p/ns/net)|$(grep -s Seccomp_filters $p/status)|$(stat -c 'owner %U' $p)\"; done 2>/dev/null")
    found = {}
    for line in machine.run(script).stdout.splitlines():
        number, kind, *told = line.split("|")
        facts = dict(re.split(r"[ \t:]+", one.strip(), maxsplit=1) for one in told if len(one.split()) == 2)
        if facts.keys() == {"user", "pid", "net", "Seccomp_filters", "owner"} and (kind or number == pid):
            found[kind.removeprefix("--type=")] = facts
    return found


def test_a_page_has_namespaces_and_a_filter_of_its_own(machine: Machine) -> None:
    found: dict[str, dict[str, str]] = {}

    def seen() -> bool:
        """In one look, and past the first moments in which it has not put on its filter yet, nor read anything."""
        found.clear()
        found.update(inside(machine))
        return found.keys() >= {"", "renderer"} and found["renderer"]["Seccomp_filters"] != found[""]["Seccomp_filters"]
    until(seen, 60, "a page with a filter of its own is open", every=0.05)
    service, page = found[""], found["renderer"]
    assert {name for name in ("user", "pid", "net") if page[name] != service[name]} == {"user", "pid", "net"}
    assert int(page["Seccomp_filters"]) > int(service["Seccomp_filters"])
    assert page["owner"] == service["owner"] == "tillwatch-browser"


def test_the_browser_sees_nothing_of_the_daemon_s(machine: Machine) -> None:
    pid = machine.show(BROWSER, "MainPID")
    for path in ("/etc/tillwatch/config.toml", "/etc/tillwatch/credentials/webhook", "/var/lib/tillwatch/tillwatch.sqlite3",
                 "/run/credentials/tillwatch.service"):
        assert machine.run(f"ls -d {path}").stdout
        assert machine.run(f"nsenter --target {pid} --mount runuser -u tillwatch-browser -- ls {path}", check=False).returncode, path
    assert machine.run("stat -c '%a %G' /run/tillwatch-browser /run/tillwatch-browser/socket").stdout.splitlines() == [
        "750 tillwatch-browser", "660 tillwatch-browser"]
    machine.run(f"systemd-analyze security --threshold=25 --no-pager {BROWSER} >/dev/null")


def test_a_browser_unit_that_stops_leaves_nothing_and_the_daemon_goes_on(machine: Machine) -> None:
    machine.run("systemctl stop tillwatch-browser")
    assert machine.show(BROWSER, "Result") == "success"
    assert machine.run("ps -o pid= -u tillwatch-browser", check=False).stdout == ""
    assert machine.run("ls -A /run/tillwatch-browser /tmp/tillwatch-browser* 2>/dev/null", check=False).stdout == ""
    assert active(machine)
    machine.write("/etc/tillwatch/config.toml", CONFIG)
    machine.run("systemctl reload tillwatch; systemctl start tillwatch-browser")


def test_an_upgrade_keeps_it_running(machine: Machine) -> None:
    follow(machine, "Upgrade")
    assert active(machine)


def test_it_stops_in_order(machine: Machine) -> None:
    begun = time.monotonic()
    machine.run("systemctl stop tillwatch")
    assert time.monotonic() - begun < 11
    assert (machine.show(DAEMON, "Result"), machine.show(DAEMON, "ExecMainStatus")) == ("success", "0")


def test_it_is_removed_without_a_trace(machine: Machine) -> None:
    follow(machine, "Remove")
    assert machine.run("systemctl list-unit-files --no-legend 'tillwatch*'", check=False).stdout == ""
    follow(machine, "Remove", 1)
    assert machine.run("find /etc /opt /usr/local /var/lib -name '*tillwatch*'").stdout == ""
    assert machine.run("getent passwd tillwatch", check=False).returncode == 2


def test_no_command_of_the_documentation_was_left_out(machine: Machine) -> None:
    assert {script for scripts in commands().values() for script in scripts} == _DONE
