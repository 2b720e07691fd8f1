"""The JSON Schema for editors: valid, true to the settings, and it refuses what they refuse."""

import copy
import json
import re
import tomllib
from pathlib import Path

import pytest
from json_schema import _CHECKS, _SAYING_NOTHING, faults, parts

from monitor.alerts.table import RECEIVERS
from monitor.config import load, schema
from probes.table import PROBES

SHIPPED = tomllib.loads((Path(__file__).parents[2] / "config.toml").read_text(encoding="utf-8"))
SCHEMA = schema()


def refused(path, value):
    """The shipped configuration with `value` at `path` does not fit the schema."""
    config = copy.deepcopy(SHIPPED)
    table = config
    for part in path[:-1]:
        table = table[part]
    table[path[-1]] = value
    return list(faults(SCHEMA, config, SCHEMA))


def test_the_shipped_example_fits_the_schema():
    assert list(faults(SCHEMA, SHIPPED, SCHEMA)) == []


def test_the_schema_is_a_schema():
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    assert SCHEMA["$schema"].endswith("2020-12/schema")
    for part in parts(SCHEMA):
        assert part.keys() <= _CHECKS.keys() | _SAYING_NOTHING, part
        assert set(part.get("required", ())) <= part.get("properties", {}).keys()
        if "pattern" in part:
            re.compile(part["pattern"])
        if "$ref" in part:
            assert part["$ref"].removeprefix("#/$defs/") in SCHEMA["$defs"]


def test_two_tables_of_one_name_keep_their_own_schema():
    """The listener's and the probe's `tls` are both TlsSettings: one must not stand for the other."""
    assert refused(("web", "tls"), {"cert_file": "a", "key_file": "b"}) == []
    assert refused(("web", "tls"), {"cert_file": "a"})
    assert refused(("web", "tls"), {"cert_file": "a", "key_file": "b", "min_days_left": 3})
    assert refused(("probe", 0, "tls"), {"min_days_left": 3}) == []


@pytest.mark.parametrize(("path", "value"), [
    (("shopp",), {}),
    (("shop", "nam"), "x"),
    (("shop", "url"), "shop.example"),
    (("shop", "currency"), "euro"),
    (("daemon", "max_concurrency", "htp"), 3),
    (("daemon", "retention"), 30),
    (("defaults", "interval"), "30"),
    (("defaults", "urgency"), "siren"),
    (("defaults", "failures"), 0),
    (("update", "interval_factor"), 0),
    (("update", "observe"), "atuo"),
    (("update", "margin"), {"p5": 1}),
    (("probe",), {}),
    (("probe", 0, "kind"), "gopher"),
    (("probe", 0, "name"), ""),
    (("probe", 0, "expect", "stauts"), [200]),
    (("probe", 0, "expect", "status"), ["200"]),
    (("probe", 0, "bearer_token"), {"env": "A", "file": "b"}),
    (("probe", 0, "max_body"), 5),
    (("receiver", 0, "on"), ["outages"]),
    (("receiver", 0, "peers"), []),
    (("token", 0, "scopes"), ["root"]),
])
def test_the_schema_refuses_what_the_settings_refuse(path, value):
    assert refused(path, value)


@pytest.mark.parametrize("path", sorted((Path(__file__).parent / "refused").glob("unknown-*.toml")), ids=lambda path: path.stem)
def test_an_editor_marks_every_unknown_name(path):
    config = tomllib.loads(path.read_text(encoding="utf-8"))
    assert list(faults(SCHEMA, config, SCHEMA))


def test_every_kind_is_in_the_schema():
    def kinds(table):
        references = [item["$ref"].rpartition("/")[2] for item in SCHEMA["properties"][table]["items"]["anyOf"]]
        return {SCHEMA["$defs"][name]["properties"]["kind"]["const"] for name in references}
    assert kinds("probe") == set(PROBES)
    assert kinds("receiver") == set(RECEIVERS)


def test_what_fits_the_schema_with_few_keys_is_accepted(home):
    config = tomllib.loads(home().read_text())
    assert list(faults(SCHEMA, config, SCHEMA)) == []
    assert load(home()).daemon.state_dir.name == "state"


def test_defaults_are_written_as_a_person_would_write_them():
    """A default that does not fit its own type would be marked as wrong by an editor."""
    for part in parts(SCHEMA):
        if part.get("type") == "string" and "default" in part and "pattern" in part:
            assert isinstance(part["default"], str), part
            assert re.search(part["pattern"], part["default"]), part
    assert SCHEMA["$defs"]["DaemonSettings"]["properties"]["retention"]["default"] == "30d"
