"""journal = { ... }: what is taken, what is refused and with which words."""

from typing import Any

import pytest
from pydantic import ValidationError

from probes.error_log import journal_settings
from probes.error_log.journal import Entry, JournalSettings


def journal(**keys: Any) -> JournalSettings:
    return JournalSettings.model_validate({key: tuple(value) if isinstance(value, list) else value for key, value in keys.items()})


@pytest.mark.parametrize(("name", "unit"), [
    ("nginx.service", "nginx.service"), ("nginx", "nginx.service"), ("php*-fpm.service", "php*-fpm.service"), ("php*", "php*"),
    ("worker@*.service", "worker@*.service"), ("php8.[12]-fpm", "php8.[12]-fpm.service"), ("shop.socket", "shop.socket"),
    ("a\\x2db.service", "a\\x2db.service"),
])
def test_units_are_named_as_systemd_takes_them(name: str, unit: str) -> None:
    assert journal(units=[name]).units == (unit,)


@pytest.mark.parametrize(("keys", "words"), [
    ({}, "name the units or identifiers to follow, or set everything = true"),
    ({"everything": True, "units": ["x"]}, "leaves nothing to name"),
    ({"units": ["--file=/etc/shadow"]}, 'begins with "-": journalctl would take it for an option'),
    ({"identifiers": ["-x"]}, 'begins with "-"'),
    ({"everything": True, "namespace": "-x"}, 'begins with "-"'),
    ({"everything": True, "namespace": "a/b"}, "is no name of a journal namespace"),
    ({"everything": True, "namespace": "*"}, "is no name of a journal namespace"),
    ({"units": [""]}, "is no name of a unit"),
    ({"units": ["a b"]}, "is no name of a unit"),
    ({"units": ["a/b.service"]}, "is no name of a unit"),
    ({"units": ["x" * 256]}, "is no name of a unit"),
    ({"units": ["shop.slice"]}, "a slice logs nothing itself"),
    ({"identifiers": [""]}, "is no syslog identifier"),
    ({"identifiers": ["a\nb"]}, "is no syslog identifier"),
    ({"identifiers": ["a\0"]}, "is no syslog identifier"),
    ({"everything": True, "directory": "/x", "namespace": "y"}, "give directory or namespace, not both"),
    ({"everything": True, "priority": "err"}, "Extra inputs are not permitted"),
])
def test_what_is_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        journal(**keys)
    assert words in str(refused.value)


def matches(settings: JournalSettings) -> list[str]:
    arguments = settings.follow("--since=@1")
    return arguments[arguments.index("--") + 1:]


def test_journalctl_looks_for_any_of_them_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "id").write_text("0123\n")
    monkeypatch.setattr(journal_settings, "MACHINE_ID", tmp_path / "id")
    both = ["_MACHINE_ID=0123", "SYSLOG_IDENTIFIER=php", "+", "_MACHINE_ID=0123", "SYSLOG_IDENTIFIER=a b"]
    assert matches(journal(identifiers=["php", "a b"])) == both
    assert matches(journal(units=["php*"])) == matches(journal(everything=True)) == ["_MACHINE_ID=0123"]
    monkeypatch.setattr(journal_settings, "MACHINE_ID", tmp_path / "none")
    assert matches(journal(everything=True)) == []


def test_a_directory_may_be_of_another_machine() -> None:
    found = matches(journal(units=["shop"], directory="/x"))
    assert found[:3] == ["_SYSTEMD_UNIT=shop.service", "+", "_PID=1"]
    assert "--directory=/x" in journal(units=["shop"], directory="/x").follow("--since=@1")


def test_patterns_are_matched_here() -> None:
    wanted = journal(units=["php*-fpm", "nginx"], identifiers=["shop"]).wanted()
    assert wanted(Entry(b"", unit="php8.4-fpm.service"))
    assert wanted(Entry(b"", unit="nginx.service"))
    assert wanted(Entry(b"", unit="x.service", identifier="shop"))
    assert not wanted(Entry(b"", unit="xphp8.4-fpm.service"))
    assert not wanted(Entry(b"", unit="nginx.service.evil"))
    assert not wanted(Entry(b""))
