"""Settings that are refused, each with the words that its author reads."""

from typing import Any

import pytest
from pydantic import ValidationError

from probes.http import HttpSettings
from probes.table import PROBES

BAD: list[tuple[dict[str, Any], str]] = [
    ({"url": "shop.example"}, "write the whole address, beginning with https:// or http://"),
    ({"url": "ftp://shop.example/"}, "write the whole address, beginning with https:// or http://"),
    ({"url": "https:///x"}, "the address has no host name"),
    ({"url": "https://u:p@shop.example/"}, "a password in the address would show up everywhere; use basic_auth = { username, password }"),
    ({"url": "https://shop.example/\r\nX: 1"}, "a web address has no spaces or line breaks"),
    ({"url": "https://shop.example:99999/"}, "is not a web address"),
    ({"method": "get"}, "Input should be 'GET', 'HEAD'"),
    ({"headers": {"X Y": "1"}}, '"X Y" cannot be the name of a header'),
    ({"headers": {"X-Y": "1\r\nZ: 2"}}, "the value of the header X-Y must not contain line breaks"),
    ({"headers": {"X-Y": 1}}, "write the value of the header X-Y as a string"),
    ({"headers": {"content-length": "1"}}, "the header content-length is set by the probe itself"),
    ({"headers": ["X"]}, "write headers as a table"),
    ({"basic_auth": {"username": "a:b", "password": "c"}}, "a user name has no colon"),
    ({"basic_auth": {"username": "a", "password": "c"}, "bearer_token": "d"}, "basic_auth and bearer_token contradict each other: keep one"),
    ({"headers": {"authorization": "x"}, "bearer_token": "d"}, "bearer_token and the header authorization contradict each other"),
    ({"body": "a"}, 'a GET request sends no body; set method = "POST" or leave out body'),
    ({"connect_to": "10.0.0.5"}, 'write it as "host:port"'),
    ({"connect_to": "10.0.0.5:0"}, 'write it as "host:port"'),
    ({"connect_to": "2001:db8::5:443"}, 'write it as "host:port"'),
    ({"max_redirects": 21}, "less than or equal to 20"),
    ({"max_body": 5}, 'write a size as a string with its unit, such as "500kB"'),
    ({"max_body": "1GB"}, "less than or equal to 100000000"),
    ({"ip_family": "v6"}, "Input should be 'any', 'ipv4' or 'ipv6'"),
    ({"expect": {"status": [99]}}, "greater than or equal to 100"),
    ({"expect": {"body_matches": ["(a"]}}, 'the pattern "(a" cannot be used: missing ): (a'),
    ({"expect": {"body_matches": ["(?=a)"]}}, "cannot be used: invalid perl operator: (?="),
    ({"expect": {"header_matches": {"X": "["}}}, 'the pattern "[" cannot be used'),
    ({"expect": {"body_contains": [""]}}, "at least 1 character"),
    ({"expect": {"final_url": "/end"}}, "write the whole address"),
    ({"expect": {"max_duration": "10s"}}, "expect.max_duration must be shorter than timeout"),
    ({"expect": {"statuses": [200]}}, "Extra inputs are not permitted"),
    ({"tls": {"key_file": "k.pem"}}, "key_file needs cert_file"),
    ({"tls": {"ca_file": "a", "insecure_skip_verify": True}}, "ca_file and insecure_skip_verify contradict each other"),
    ({"tls": {"min_days_left": -1}}, "greater than or equal to 0"),
]


@pytest.mark.parametrize(("keys", "words"), BAD)
def test_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        HttpSettings.model_validate({"name": "p", "url": "https://shop.example/", **keys})
    (problem,) = caught.value.errors()
    assert words in problem["msg"]


def test_everything_at_once() -> None:
    settings = HttpSettings.model_validate(
        {
            "name": "p", "cohort": "canary", "timeout": "5s", "url": "https://shop.example/?a=1", "method": "POST", "body": "x",
            "headers": {"Accept-Language": "de", "X-Api-Key": {"env": "KEY"}}, "basic_auth": {"username": "u", "password": {"env": "P"}},
            "follow_redirects": False, "max_redirects": 0, "ip_family": "ipv4", "connect_to": "[2001:db8::5]:443", "max_body": "1MiB",
            "expect": {
                "status": [200], "body_contains": ["a"], "body_not_contains": ["b"], "body_matches": ["c"], "header_matches": {"d": "e"},
                "json": {"a.b": 1, "c": {"d": "e"}}, "final_url": "https://shop.example/*", "content_type": "text/html", "max_duration": "2s",
            },
            "tls": {"cert_file": "c", "key_file": "k", "server_name": "s", "min_days_left": 3},
        },
        context={"base": "/etc/tillwatch"},
    )
    assert settings.expect.json_ == {"a.b": 1, "c.d": "e"}
    assert str(settings.tls.cert_file) == "/etc/tillwatch/c"
    assert HttpSettings.model_json_schema()["properties"]["expect"]


def test_plan_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = HttpSettings.model_validate({"name": "p", "url": "https://shop.example/"})
    assert settings.plan is settings.plan
    assert settings == HttpSettings.model_validate({"name": "p", "url": "https://shop.example/"})
    assert "plan" not in settings.model_dump()


def test_the_table_is_complete() -> None:
    for kind in PROBES.values():
        assert {"name", "cohort", "timeout"} <= kind.settings.model_fields.keys()
        assert "success" in {signal.name for signal in kind.signals}
