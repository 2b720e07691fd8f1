"""What is known to be secret, what looks like it, cards and order numbers (T81), logs by every way, and what it costs."""

import base64
import html
import json
import logging
import random
import string
import subprocess
import sys
from pathlib import Path
from time import thread_time
from urllib.parse import quote, quote_plus

import pytest
from canaries import SHAPES, secret

from probes import scrub as scrubber
from probes.fields import Secret
from probes.scrub import know, redact, scrub

ROOT = Path(__file__).resolve().parents[2]

# ---- by value


@pytest.fixture(scope="module")
def known() -> str:
    value = 'kn0wn/"würd"+&=' + secret(70)
    know(value)
    return value


SPELLINGS = {
    "as it is": str, "URL": quote, "URL, all": lambda s: quote(s, safe=""), "form": quote_plus, "JSON": json.dumps, "HTML": html.escape, "repr": repr,
    "JSON of PHP": lambda s: json.dumps(s).replace("/", "\\/"), "HTML of PHP": lambda s: html.escape(s).replace("&#x27;", "&#039;"),
    "JSON in UTF-8": lambda s: json.dumps(s, ensure_ascii=False), "Base64": lambda s: base64.b64encode(s.encode()).decode(),
    "Base64 for URLs": lambda s: base64.urlsafe_b64encode(s.encode()).decode(),
    "login": lambda s: base64.b64encode(f"till:{s}".encode()).decode(), "login of another": lambda s: base64.b64encode(f"anna:{s}".encode()).decode(),
    "cut in a title": lambda s: s[:25], "cut when escaped": lambda s: quote(s, safe="")[:40], "within a word": lambda s: f"abc{s}xyz",
}


@pytest.mark.parametrize("how", SPELLINGS)
def test_what_is_known_is_hidden_in_every_spelling(known: str, how: str) -> None:
    spelled = SPELLINGS[how](known)
    for text in (f"before {spelled} after", f'"{spelled}"', f"x={spelled}&y=1"):
        shown = scrub(text)
        assert "[hidden]" in shown
        assert spelled[5:21] not in shown
        assert spelled[-8:] not in shown or how == "within a word"
    assert scrub("before and after") == "before and after"


@pytest.mark.parametrize(("value", "text", "shown"), [
    ("k3y", "the k3y is short", "the k3y is short"),                                       # in every text: cannot be hidden by value
    ("p1n-77", "my p1n-77 ok, p1n-777 not", "my [hidden] ok, p1n-777 not"),                # as a whole word only
    ("https://hooks.example/services/T01/B02/qwertzuiopas", "https://hooks.example/other and /services/T01/B02/qwertzuiopas",
     "https://hooks.example/other and [hidden]"),
    ("https://u:p4ssw0rd-x@h.example/", "it is p4ssw0rd-x at h.example", "it is [hidden] at h.example"),
    ("session=abcdef-0123-zyx; theme=dark", "theme=dark abcdef-0123-zyx", "theme=dark [hidden]"),
    ("Bearer zzyyxxwwvvuu99", "got zzyyxxwwvvuu99.", "got [hidden]."),
    ("first-line-of-a-key-0123\nsecond-line-of-a-key-456", "a first-line-of-a-key-0123 b", "a [hidden] b"),
    ("   spaced-out-secret-1  \n", "spaced-out-secret-1", "[hidden]"),
])
def test_what_of_a_secret_is_hidden(value: str, text: str, shown: str) -> None:
    know(value)
    assert scrub(text) == shown


def test_of_two_secrets_that_begin_alike_the_longer_one_is_hidden_whole() -> None:
    know("alike-0123456789-short", "alike-0123456789-short-and-a-longer-end-of-it")
    assert scrub("x alike-0123456789-short-and-a-longer-end-of-it y") == "x [hidden] y"
    assert scrub("x alike-0123456789-short y") == "x [hidden] y"


def test_whoever_reads_a_secret_makes_it_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every one that the configuration can name, by the one way to it."""
    monkeypatch.setenv("REDACTION_TEST", secret(71))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "file").write_text(secret(72))
    (tmp_path / "credential").write_text(secret(73))
    written = ({"env": "REDACTION_TEST"}, {"file": str(tmp_path / "file")}, {"credential": "credential"}, {"inline": secret(74)})
    for number, raw in zip(range(71, 75), written, strict=True):
        assert secret(number) in scrub(f"is {secret(number)}")
        assert Secret.model_validate(raw, strict=False).reveal() == secret(number)
        assert scrub(f"is {secret(number)}") == "is [hidden]"


def test_no_more_is_remembered_than_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubber, "_MOST_KNOWN", 50)
    monkeypatch.setattr(scrubber, "_values", {})
    monkeypatch.setattr(scrubber, "_known", scrubber._Finder())
    for number in range(200):
        know(secret(1000 + number))
    assert 25 <= len(scrubber._values) <= 50
    assert scrub(secret(1199)) == "[hidden]"
    assert scrub(secret(1000)) == secret(1000)


# ---- by shape


@pytest.mark.parametrize("number", range(len(SHAPES)))
def test_what_looks_like_a_secret_is_hidden_wherever_it_stands(number: int) -> None:
    told = SHAPES[number]
    for around in ("{}", '"{}"', "<title>{}</title>", "a\n{}\nb", "x" * 3000 + " {}"):
        text = around.format(told.says)
        assert told.bare not in scrub(text)
        assert told.bare not in redact(text)


@pytest.mark.parametrize("text", [
    "HTTP 503 Service Unavailable, wanted 200", "order #1001 of 2026-11-22 01:02:03.456", "monkey business", 'the page lacks "Add to basket"',
    "0 of 288 failed, p95 1.27 s", "SKU 4006381333931", "1.2.3.4:443", "+1 point", "C++11 1234567890", "took +0.5 s", "build 20261122.1234567",
    "eyJ is no token", "tracking 1Z999AA10123456784", "IBAN DE89 3704 0044 0532 0130 00", "ghp_short", "12:00:00+0100", "a+49b",
    "c0ffee00-1234-4321-8888-0123456789ab", "AKIA", "the card code is wrong", "telephone support", "mobile version",
])
def test_harmless_text_stays(text: str) -> None:
    assert scrub(text) == text


# ---- cards

PANS = ("4111111111111111", "4222222222222", "4000000000000000006", "5555555555554444", "2223003122003222", "378282246310005", "6011111111111117",
        "30569309025904", "3530111333300000", "6200000000000005", "6759649826438453", "2200000000000004", "36227206271667", "4917610000000000")
FORMATS = {
    "plain": lambda p: p, "spaces": lambda p: _grouped(p, " "), "dashes": lambda p: _grouped(p, "-"), "dots": lambda p: _grouped(p, "."),
    "URL": lambda p: _grouped(p, "%20"), "form": lambda p: _grouped(p, "+"), "dashes in a URL": lambda p: _grouped(p, "%2D"),
    "hard spaces": lambda p: _grouped(p, "\u00a0"), "hard spaces in a URL": lambda p: _grouped(p, "%C2%A0"), "HTML": lambda p: _grouped(p, "&nbsp;"),
    "HTML by number": lambda p: _grouped(p, "&#160;"), "JSON": lambda p: _grouped(p, "\\u00a0"), "tabs in JSON": lambda p: _grouped(p, "\\t"),
    "lines": lambda p: _grouped(p, "\r\n"), "digit by digit": " ".join, "full width": lambda p: "".join(chr(0xFEE0 + ord(c)) for c in p),
}


def _grouped(number: str, between: str) -> str:
    return between.join(number[at : at + 4] for at in range(0, len(number), 4))


@pytest.mark.parametrize("how", FORMATS)
def test_every_card_is_found_in_every_form(how: str) -> None:
    for number in PANS:
        for around in ("card {} declined", '{{"pan":"{}","cvv":"123"}}', "pan={}&cvv=123", "{}"):
            shown = scrub(around.format(FORMATS[how](number)))
            digits = "".join(filter(str.isdigit, shown))
            assert number[:-4] not in digits, shown
            assert f"[card …{number[-4:]}]" in shown
            assert "123" not in shown.replace(number[-4:], "")


def test_order_numbers_stay() -> None:
    """10,000 as shop systems give them: Magento, Shopify, WooCommerce, SAP, Amazon, eBay, dated ones, articles, parcels, moments in ms."""
    chance = random.Random(5)

    def digits(count: int) -> str:
        return "".join(chance.choices(string.digits, k=count))
    kinds = (
        lambda: f"1000{digits(5)}", lambda: f"#{digits(4)}", lambda: digits(6), lambda: f"00{digits(8)}",
        lambda: f"30{digits(1)}-{digits(7)}-{digits(7)}",
        lambda: f"{digits(2)}-{digits(5)}-{digits(5)}", lambda: f"20261122-{digits(6)}", lambda: f"20261122{digits(8)}", lambda: f"40{digits(11)}",
        lambda: f"JJD00{digits(16)}", lambda: f"17{digits(11)}", lambda: f"R{digits(9)}")
    texts = [f"order {kinds[number % len(kinds)]()} failed" for number in range(10_000)]
    assert sum("[card" in scrub(text) for text in texts) <= 100


# ---- logs

LOUD = """
import logging, sys, threading, warnings, asyncio, structlog
from pathlib import Path
from monitor import logs
from probes.scrub import know
C = sys.argv[2]
know(C)
logs.configure(sys.argv[1], logging.DEBUG)
log = structlog.get_logger()
log.info("said", plain=C, listed=[C, {C: (C,)}], path=Path("/" + C), number=1, right=True, nothing=None)
log.bind(bound=C).warning(f"in the event {C}")
try:
    local = C
    try:
        raise ValueError(C)
    except ValueError as error:
        raise RuntimeError(f"because of {C}") from error
except RuntimeError:
    log.error("failed", exc_info=True)
    logging.getLogger("aiohttp.server").exception("a library says %s", C)
logging.getLogger("asyncio").error("%r", {"a": C})
warnings.warn(C)
thread = threading.Thread(target=lambda: int(C))
thread.start(); thread.join()
class Late:
    def __del__(self):
        raise ValueError(C)
Late()
async def main():
    asyncio.get_running_loop().set_debug(True)
    asyncio.get_running_loop().create_task(fails(), name=C)
    await asyncio.sleep(0.01)
async def fails():
    raise ValueError(C)
asyncio.run(main())
raise SystemError(C)
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_log_line_and_no_traceback_shows_a_secret(form: str) -> None:
    done = subprocess.run([sys.executable, "-c", LOUD, form, secret(75)], capture_output=True, text=True, cwd=ROOT, timeout=30, check=False)
    said = done.stdout + done.stderr
    assert secret(75) not in said
    assert said.count("[hidden]") >= 14
    for words in ("because of [hidden]", "a library says [hidden]", "in the event [hidden]", "SystemError: [hidden]", "UserWarning: [hidden]"):
        assert words in said, said
    if form == "json":
        lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        assert lines[0] == lines[0] | {"plain": "[hidden]", "listed": ["[hidden]", {"[hidden]": ["[hidden]"]}], "number": 1, "right": True}
        assert "nothing" not in lines[0]


def test_pytest_itself_was_not_configured_by_it() -> None:
    assert logging.getLogger().level != logging.DEBUG


# ---- costs


def test_a_hundred_secrets_cost_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text of 130 characters takes some 80 µs; with a hundred secrets in all their spellings not many times as long."""
    monkeypatch.setattr(scrubber, "_values", {})
    monkeypatch.setattr(scrubber, "_known", scrubber._Finder())
    text = 'HTTP 500 Internal Server Error, wanted 200 to 299; "Fatal error in /var/www/shop/vendor/checkout.php:123, order 100000123"'
    without = _cost(text)
    know(*(secret(2000 + number) for number in range(100)))
    assert _cost(text) < max(2 * without, 0.0005)


def _cost(text: str) -> float:
    begun = thread_time()
    for _ in range(200):
        scrub(text)
    return (thread_time() - begun) / 200


@pytest.mark.parametrize(
    "piece", ["-----BEGIN PRIVATE KEY-----", "eyJabcdefgh.", "://a@", "+1", "tel=1", "[card …1111] ", "cvv: ", "whsec_", secret(76)[:12]])
def test_hostile_text_takes_linear_time(piece: str) -> None:
    know(secret(76))
    for work in (scrub, redact):
        begun = thread_time()
        work(piece * (60_000 // len(piece)))
        assert thread_time() - begun < 0.5
