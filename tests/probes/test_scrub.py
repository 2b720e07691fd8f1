"""Secrets and personal data, in every spelling, and how long it may take."""

import base64
import json
import random
from time import thread_time
from urllib.parse import quote, quote_plus

import pytest

from probes.scrub import scrub

SECRET = 'p4ss "wörd"/+&='

PAN = "4111111111111111"
CARDS = [
    PAN,
    "4111 1111 1111 1111",
    "4111-1111-1111-1111",
    "4111.1111.1111.1111",
    "4111%201111%201111%201111",
    "4111+1111+1111+1111",
    "4111%2D1111%2D1111%2D1111",
    "4111\u00a01111\u00a01111\u00a01111",
    "4111&nbsp;1111&nbsp;1111&nbsp;1111",
    "4111\\u00a01111\\u00a01111\\u00a01111",
    "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
    "41111111 11111111",
    "5555555555554444",
    "2223003122003222",
    "378282246310005",
    "3782 822463 10005",
    "6011111111111117",
    "30569309025904",
    "3530111333300000",
    "6200000000000005",
    "6304 0000 0000 0000",
    "4000000000000000006",
]


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("around", ["{}", "card={}&cvv=123", '{{"number":"{}"}}', "order 12 {}", "no {} paid", "x{}y", "{}\n", "2026-11-22 {}"])
def test_card_numbers_are_masked(card: str, around: str) -> None:
    digits = "".join(filter(str.isdigit, card.replace("%20", "").replace("%2D", "").replace("\\u00a0", "")))
    shown = scrub(around.format(card))
    assert card not in shown
    assert digits[:12] not in "".join(filter(str.isdigit, shown))
    assert digits[-4:] in shown


def test_other_numbers_stay() -> None:
    chance = random.Random(1)
    numbers = [f"100{chance.randrange(10**9):09d}" for _ in range(5000)] + [f"{chance.randrange(10**15, 10**16)}" for _ in range(5000)]
    masked = [number for number in numbers if "[card" in scrub(f"order {number} failed")]
    assert len(masked) <= 0.03 * 5000            # random 16 digits: one in ten has a right check digit, few an issuer
    for text in ("2026-11-22 01:02:03.456", "4111111111111112", "1" * 25, "a1b2c3d4e5f6a7b8", "SKU 4006381333931"):
        assert scrub(text) == text


@pytest.mark.parametrize(
    "spelled",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
        *(base64.b64encode(f"{user}:{SECRET}".encode()).decode() for user in ("u", "us", "use", "user")),
    ],
)
def test_a_known_secret_is_found_in_every_spelling(spelled: str) -> None:
    shown = scrub(f"before {spelled} after", (SECRET,))
    assert "[hidden]" in shown
    assert "p4ss" not in shown
    assert spelled[8:-4] not in shown
    assert shown.startswith("before ")
    assert shown.endswith(" after")


def test_a_secret_across_the_end_leaves_no_half() -> None:
    for padding in range(4050, 4100):
        assert "SEC" not in scrub("x" * padding + "SECRETSECRET" * 3, ("SECRETSECRETSECRETSECRETSECRETSECRET",), limit=5000)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc.def", "Authorization: [hidden]"),
        ("Cookie: a=1; b=2\nHost: x", "Cookie: [hidden] Host: x"),
        ("set-cookie: sid=1; Path=/", "set-cookie: [hidden]"),
        ('{"Authorization": "Basic dTpw", "a": 1}', '{"Authorization": [hidden], "a": 1}'),
        ("use Bearer abcdefghijkl now", "use Bearer [hidden] now"),
        ("GET /?token=abc&x=1", "GET /?token=[hidden]&x=1"),
        ("GET /?api_key=abc&sig=d-e_f", "GET /?api_key=[hidden]&sig=[hidden]"),
        ('"client_secret":"abc"', '"client_secret":"[hidden]"'),
        ('{\\"password\\": \\"abc\\"}', '{\\"password\\": \\"[hidden]\\"}'),
        ("password = hunter2", "password = [hidden]"),
        ("https://user:pw@shop.example/a", "https://[hidden]@shop.example/a"),
        ("mail to a.b+c@shop.example.com now", "mail to [e-mail] now"),
        ("a%40shop.example", "[e-mail]"),
        ("10.0.0.5 is fine", "10.0.0.5 is fine"),
        ("\x1b[31mred\x07\u202e", "\\x1b[31mred\\x07\\u202e"),
        ("a\r\n\tb  c", "a b c"),
        ("\ud800", "\\ud800"),
        ("", ""),
    ],
)
def test_text(text: str, shown: str) -> None:
    assert scrub(text) == shown


def test_addresses_are_hidden_on_request() -> None:
    assert scrub("from 10.0.0.5 and 2001:db8::1 at 12:30:45", ips=True) == "from [ip] and [ip] at 12:30:45"


def test_length_is_bounded() -> None:
    assert len(scrub("a b " * 10_000)) == 400
    assert len(scrub("a b " * 10_000, limit=20)) == 20


@pytest.mark.parametrize(
    "piece",
    ["a", "1", "1 ", "4111 1111 1111 1111 ", "key", "key=", '"', "a.", "@", "a@a.", ":", "Cookie: ", "://", "bearer ", "token:", "4-", "%20", "\x1b"],
)
def test_takes_linear_time(piece: str) -> None:
    began = thread_time()
    scrub(piece * (1_000_000 // len(piece)), ("x" * 50,), ips=True)
    assert thread_time() - began < 0.25
