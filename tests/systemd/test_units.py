"""The unit files as they lie here, without a booted systemd."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from machine import ROOT

UNITS = sorted((ROOT / "systemd").glob("*.service"))
MOST, MOST_OF_A_BROWSER = 1.5, 2.5
BROWSER = "tillwatch-browser.service"
needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="NOT RUN: there is no systemd-analyze (Debian: systemd)")


def lines(name: str) -> list[str]:
    """What a unit says, without comments."""
    text = (ROOT / "systemd" / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_there_are_a_daemon_and_its_last_words_for_one_shop_and_for_several() -> None:
    assert {path.name for path in UNITS} == {
        "tillwatch.service", "tillwatch@.service", "tillwatch-failed.service", "tillwatch-failed@.service", BROWSER}


@needs_systemd
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_is_closed(path: Path) -> None:
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)], capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for \S+: (\S+)", done.stdout)
    if not found and "offline" in done.stderr:
        pytest.skip(f"NOT RUN: this systemd-analyze has no --offline: {done.stderr.strip()}")
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= (MOST_OF_A_BROWSER if path.name == BROWSER else MOST)


@needs_systemd
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_understands_every_line(path: Path, tmp_path: Path) -> None:
    """With a program that exists in place of one that is not installed here."""
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8").replace("/opt/tillwatch/bin/tillwatch", shutil.which("true") or "")
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    name = path.name.replace("@.", "@shoes.")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(tmp_path / name)], capture_output=True, text=True, check=False)
    assert not [line for line in done.stderr.splitlines() if "tillwatch" in line], done.stderr


def sandbox(name: str) -> list[str]:
    """The lines that close a unit."""
    told = lines(name)
    closed = told[told.index("NoNewPrivileges=yes"):]
    return [line for line in closed if not line.startswith(("SystemCallFilter=setpriority", "[Install]", "WantedBy="))]


def test_all_are_closed_alike() -> None:
    """A line that is added to one sandbox and forgotten in another would be a hole that nobody sees."""
    assert len(sandbox("tillwatch.service")) > 25
    assert {tuple(sandbox(path.name)) for path in UNITS if path.name != BROWSER} == {tuple(sandbox("tillwatch.service"))}


def test_the_browser_s_is_more_open_only_by_what_a_browser_and_its_own_sandbox_need() -> None:
    daemon, browser = set(sandbox("tillwatch.service")), set(sandbox(BROWSER))
    assert daemon - browser == {"ProcSubset=pid", "RestrictNamespaces=yes", "MemoryDenyWriteExecute=yes", "SystemCallFilter=@system-service",
                                "SystemCallFilter=~@privileged @resources"}
    assert browser - daemon == {
        "RestrictNamespaces=user pid net ipc", "SystemCallFilter=~@resources",
        "SystemCallFilter=@system-service @pkey chroot seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self"}
    told = lines(BROWSER)
    assert {"InaccessiblePaths=-/etc/tillwatch -/var/lib/tillwatch", "OOMPolicy=kill", "MemoryMax=2G"} <= set(told)
    assert "StateDirectory=tillwatch-browser" in told                    # of its own, beside the daemon's
    assert not [line for line in told if line.startswith(("LoadCredential", "EnvironmentFile", "SupplementaryGroups"))]


@pytest.mark.parametrize(("one", "each"), [("tillwatch.service", "tillwatch@.service"), ("tillwatch-failed.service", "tillwatch-failed@.service")])
def test_a_shop_of_several_is_served_as_an_only_one(one: str, each: str) -> None:
    of_one = [line.replace("/etc/tillwatch/", "/etc/tillwatch/%i/").replace("StateDirectory=tillwatch", "StateDirectory=tillwatch-%i")
              .replace("tillwatch-failed.service", "tillwatch-failed@%i.service").replace("tillwatch.service", "tillwatch@%i.service")
              for line in lines(one)]
    assert [re.sub(r"^(Description=.*updates)$", r"\1 (%i)", line) for line in of_one] == lines(each)


def test_the_wheel_carries_them_all() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert build["shared-data"]["systemd"] == "share/tillwatch/systemd"
