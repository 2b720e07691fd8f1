"""JSON lines, however their fields are called and whatever somebody has put into them."""

import json
from dataclasses import dataclass

import pytest
from cpu import least
from test_formats import events

from probes.error_log.event import Level
from probes.error_log.formats import recognise
from probes.error_log.scan import Scanner
from probes.error_log.tally import Known

HOSTILE = {
    "nested 10,000 deep": '{"level":"error","msg":"x","a":' + "[" * 10_000 + "]" * 10_000 + "}",
    "objects 10,000 deep": '{"level":"error","msg":"x"' + ',"a":{"b":1' * 10_000 + "}" * 10_001,
    "never closed": '{"level":"error","msg":"x","a":' + '{"a":' * 10_000,
    "numbers beyond any": '{"level":"error","msg":"x","a":1e400,"b":-1e999,"c":NaN,"d":Infinity}',
    "a number of 100,000 digits": '{"level":"error","msg":"x","a":' + "9" * 100_000 + "}",
    "the same key 20,000 times": '{"level":"error","msg":"x"' + ',"a":1' * 20_000 + "}",
    "20,000 keys": '{"level":"error","msg":"x"' + "".join(f',"k{number}":{{"a":1}}' for number in range(20_000)) + "}",
    "5 MB of text": '{"level":"error","msg":"x","a":"' + "y" * 5_000_000 + '"}',
    "5 MB of quotes": '{"level":"error","msg":"' + '\\"' * 2_500_000 + '"}',
    "5 MB of keys": '{"level":"error","msg":"x"' + ',"level":"info"' * 330_000 + "}",
    "surrogates": '{"level":"error","msg":"\\ud800 x \\udfff","exc":"\\ud83d"}',
    "cut in the middle": '{"level":"error","msg":"x","exc":"Traceback (most recent call last):\\n  File \\"/srv/a.py\\", li',
}


@dataclass(frozen=True)
class Keys:
    level: str = ""
    message: str = ""
    exception: str = ""


@pytest.mark.parametrize(("line", "level"), [
    ('{"level":"error","msg":"said"}', "error"),                                                    # zap, logrus, winston
    ('{"level": "ERROR", "message": "said"}', "error"),
    ('{"severity":"CRITICAL","message":"said"}', "critical"),                                       # Google's
    ('{"@timestamp":"2026-11-27T18:00:00.000Z","log.level":"error","message":"said"}', "error"),    # ECS
    ('{"log":{"level":"warn"},"message":"said"}', "warning"),
    ('{"levelname":"WARNING","message":"said","asctime":"2026-11-27 18:00:00,000"}', "warning"),    # python-json-logger
    ('{"@level":"error","@message":"said","@module":"shop"}', "error"),                             # hclog
    ('{"message":"said","context":{},"level":400,"level_name":"ERROR","channel":"app"}', "error"),  # Monolog
    ('{"message":"said","context":{},"level":550,"level_name":"ALERT","channel":"app"}', "critical"),
    ('{"level":50,"time":1795805058167,"pid":1,"hostname":"web","msg":"said"}', "error"),           # pino, bunyan
    ('{"level":60,"time":1795805058167,"pid":1,"hostname":"web","msg":"said"}', "critical"),
    ('{"level":40,"time":1795805058167,"pid":1,"hostname":"web","msg":"said"}', "warning"),
    ('{"version":"1.1","host":"web","short_message":"said","level":3}', "error"),                   # GELF
    ('{"version":"1.1","host":"web","short_message":"said","level":0}', "critical"),
    ('{"version":"1.1","host":"web","short_message":"said","level":"4"}', "warning"),
    ('{"status":"error","message":"said"}', "error"),                                               # Datadog
    ('{"@t":"2026-11-27T18:00:00Z","@mt":"said","@l":"Fatal"}', "critical"),                        # Serilog
    ('{"level":"dpanic","msg":"said"}', "critical"),
])
def test_levels_by_whatever_name(line: str, level: str) -> None:
    assert recognise(line.encode()) == "json"
    assert [(found, name.split(" ")[0]) for found, name in events("json", line + "\n")] == [(level, f"{level}:said")]


@pytest.mark.parametrize("line", [
    '{"level":"info","msg":"no error at all"}', '{"level":30,"msg":"error"}', '{"level":"debug","msg":"fatal"}', '{"level":6,"short_message":"x"}',
    '{"level":200,"level_name":"INFO","message":"error"}', '{"level":"info","status":200,"uri":"/error"}', '{"status":404,"uri":"/"}',
    '["level","error"]', '{"msg":"\\"level\\":\\"error\\""}',
])
def test_what_is_no_error(line: str) -> None:
    assert events("json", line + "\n") == []


def test_the_number_of_a_level_is_not_lost_with_the_other_digits() -> None:
    lines = "".join(f'{{"level":{level},"time":{level},"msg":"said"}}\n' for level in (30, 50, 60, 40, 50, 30, 20, 60))
    assert [level for level, _ in events("json", lines)] == ["error", "critical", "warning", "error", "critical"]


def test_requests_that_failed() -> None:
    lines = (
        '{"time":"2026-11-27T18:00:00+00:00","status":"502","request":"POST /checkout/pay HTTP/1.1","request_time":"1.204"}\n'      # nginx
        '{"level":"info","request":{"method":"GET","uri":"/product/blue-shoes"},"status":500,"duration":0.1}\n'                     # Caddy
        '{"DownstreamStatus":504,"RequestMethod":"GET","RequestPath":"/cart","level":"info"}\n'                                     # Traefik
        '{"time":"2026-11-27T18:00:00+00:00","status":"200","request":"POST /checkout/pay HTTP/1.1","request_time":"1.204"}\n')
    assert [name for _, name in events("json", lines)] == [
        "error:POST of checkout answered: Bad Gateway [access]", "error:GET of catalogue answered: Internal Server Error [access]",
        "error:GET of cart answered: Gateway Timeout [access]"]


def test_the_trace_in_a_field() -> None:
    trace = 'Traceback (most recent call last):\n  File "/srv/shop/cart.py", line 3, in total\n    x\nKeyError: \'sku\'\n'
    for field in ({"exc_info": trace}, {"exception": trace}, {"error": {"stack_trace": trace}}, {"exc": trace}):
        (_, name), = events("json", json.dumps({"level": "error", "msg": "request failed", "id": "7f" * 16, **field}) + "\n")
        assert name == "error:KeyError: 'sku' in cart.py total [cart]"


def test_a_long_trace_is_read_to_its_end() -> None:
    trace = "Traceback (most recent call last):\n" + '  File "/srv/shop/cart.py", line 3, in total\n    x\n' * 50 + "KeyError: 'sku'\n"
    (_, name), = events("json", json.dumps({"level": "error", "extra": "y" * 100_000, "msg": "failed", "exc": trace}) + "\n")
    assert "KeyError" in name


def test_own_names_of_fields_come_first() -> None:
    line = '{"sev":"E","level":"info","grade":{"is":"error"},"what":"stock is gone","msg":"x","why":"ValueError: no"}\n'
    assert events("json", line) == []
    assert events("json", line, keys=Keys("grade.is", "what", "why")) == [("error", "error:stock is gone")]
    assert events("json", line, keys=Keys(level="grade.is")) == [("error", "error:x")]


def test_a_crash_in_plain_words_between_the_lines() -> None:
    lines = ('{"level":30,"msg":"listening"}\n'
             "/srv/shop/src/server.js:19\n  throw new TypeError('x');\n  ^\n\n"
             "TypeError: x\n    at reserve (/srv/shop/src/server.js:19:39)\n\nNode.js v20.20.2\n"
             '{"level":50,"msg":"said"}\n'
             'Traceback (most recent call last):\n  File "/srv/shop/cart.py", line 3, in total\n    x\nshop.Gone: sku\n{"level":30,"msg":"up"}\n')
    assert events("json", lines) == [
        ("critical", "critical:TypeError: x in server.js reserve [shop]"), ("error", "error:said"),
        ("error", "error:Gone: sku in cart.py total [cart]")]


def test_requests_have_identifiers_that_do_not_count() -> None:
    scanner, looked_at = Scanner("json"), 0
    look = scanner._looked_at

    def counted(text: bytes, floor: Level | None) -> Known | None:
        nonlocal looked_at
        looked_at += 1
        return look(text, floor)
    scanner._looked_at = counted                               # type: ignore[method-assign]
    for number in range(500):
        said = {"level": "error", "id": f"{number * 2654435761:032x}", "msg": f"order {number:x}a{number} of {number:08x} lost"}
        scanner.read(json.dumps(said).encode() + b"\n", True)
    assert dict(scanner.tally.signatures) == {"error:order * of * lost": 500}
    assert looked_at < 20


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "re2"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_lines_cost_little_and_still_count(name: str, fast: bool) -> None:
    line, scanners = HOSTILE[name].encode() + b"\n", [Scanner("json", fast=fast) for _ in range(3)]
    anew, taken = iter(scanners), list[int]()                   # each sees the line for the first time
    spent = least(lambda: taken.append(next(anew).read(line, True)))
    assert taken == [len(line)] * 3
    assert [scanner.tally.events.total() for scanner in scanners] == [1] * 3
    assert spent < 0.05 + len(line) / 50e6, f"{spent * 1000:.0f} ms"                # finding alone takes some of 5 MB


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_entries_cost_little(name: str) -> None:
    text, scanners = HOSTILE[name].encode(), [Scanner("json") for _ in range(3)]
    anew = iter(scanners)
    assert least(lambda: next(anew).entry(text, "error")) < 0.05
    assert [scanner.tally.events["error"] for scanner in scanners] == [1] * 3
