"""Nothing that is secret or personal survives in a signature or in an example: signatures are names of counts, and go everywhere."""

import re
from urllib.parse import quote

import pytest

from probes.error_log.event import Event, Frame
from probes.error_log.signature import LONGEST_EXAMPLE, example, signature
from probes.scrub import know

SECRET, WORDS_ONLY = "Qv7!till-watch/9canary-Zebra", "correct-horse-battery-staple"
CARDS = ("4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "4111.1111.1111.1111", "4111%201111%201111%201111", "4111+1111+1111+1111",
         "4111\u00a01111\u00a01111\u00a01111", "4111&nbsp;1111&nbsp;1111&nbsp;1111", "4111\\u00a01111\\u00a01111\\u00a01111", "41111111 11111111",
         "5500 0000 0000 0004", "378282246310005", "3782 822463 10005", "６０１１１１１１１１１１１１１７", "30569309025904")
PLACES = (
    "Payment with {} failed", '"card": "{}"', "card={}&x=1", "/pay/{}/x.php", "'{}'", "{}", "KeyError {}",
    "https://shop.example/pay?card={}", "pan:{}.")


def names(text: str) -> list[str]:
    """All that can be made of it, wherever it stood."""
    events = (
        Event("error", text), Event("error", "x", text), Event("error", "x", exception=text, frames=(Frame("/a.py", "f"),)),
        Event("error", "x", exception="E", frames=(Frame(f"/srv/{text}/{text}.php", text),)))
    return [*map(signature, events), example(text)]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("card", CARDS)
def test_no_card_number_survives(card: str, place: str) -> None:
    for name in names(place.format(card)):
        digits = re.sub(r"%20|%2D|u00a0|&#?\w+;|\D", "", name)
        assert "1111111" not in digits
        assert not re.search(r"\d{7}", digits.replace("[card …1111]", "")), name


@pytest.mark.parametrize("personal", [
    "anna.muster@example.org", "anna.muster%40example.org", "+49 170 1234567", "phone: 0170 1234567", "10.117.192.7", "2001:db8:85a3::8a2e:370:7334",
    "Authorization: Bearer abcDEFghiJKLmno", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcDEFghiJKLmnop",
    "password=hunterhunter", "api_key: abcdefghijklm",
    "sk_live_abcdefghijklmnop", "https://anna:hunterhunter@shop.example/", "Cookie: sid=abcdefghijklmnop"])
@pytest.mark.parametrize("place", ["Request of {} failed", "{}", "'{}' was refused", '{{"x": "{}"}}'])
def test_no_personal_data_or_credential_survives(personal: str, place: str) -> None:
    telling = ("muster", "170", "117", "85a3", "abcDEF", "hunter", "ghijk", "eyJ")
    for name in (signature(Event("error", place.format(personal))), example(place.format(personal))):
        assert not [word for word in telling if word.lower() in name.lower()], name


@pytest.mark.parametrize("spelled", [SECRET, quote(SECRET), quote(SECRET, safe=""), SECRET.replace("/", "\\/"), WORDS_ONLY])
@pytest.mark.parametrize("place", ["could not log in with {} at all", "key '{}' is wrong", "{}", "GET /x?t={} failed", "a" * 950 + " {}"])
def test_known_secrets_survive_nowhere(spelled: str, place: str) -> None:
    know(SECRET, WORDS_ONLY)
    for name in names(place.format(spelled)):
        assert not [piece for piece in ("canary", "Zebra", "till-watch", "horse", "staple") if piece in name], name


def test_half_a_secret_at_the_end_of_what_is_looked_at_survives_neither() -> None:
    know(SECRET)
    for length in range(960, 1010):
        assert "Qv7" not in signature(Event("error", "1" * length + SECRET)), length
        assert "till" not in signature(Event("error", "1" * length + SECRET)), length
    for length in range(4040, 5010, 7):
        assert "till" not in example(" " * length + SECRET)


@pytest.mark.parametrize("text", [
    '{"level": "error", "customer": {"first_name": "Gerd", "last_name": "Muster", "street": "Lindenweg 4", "city": "Kassel", "zip": "34117"}}',
    '{"phone": "0561 12345", "mobile": "0170 12345"}',
    '{\\"name\\": \\"Gerd Muster\\", \\"billing_address\\": \\"Lindenweg 4, Kassel\\"}',
    "[firstname] => Gerd\n[lastname] => Muster\n[street] => Lindenweg 4\n[city] => Kassel",
    "order failed: name=Gerd Muster, street=Lindenweg 4, city=Kassel",
    "{'recipient': 'Gerd Muster', 'address_line_1': 'Lindenweg 4', 'postcode': '34117', 'town': 'Kassel'}",
    '{"email":"gerd@muster.example","company":"Lindenweg GmbH","vat_id":"DE34117","birthday":"1.2.1970"}',
])
def test_names_and_addresses_are_hidden_by_what_they_are_called(text: str) -> None:
    for shown in (example(text), signature(Event("error", text))):
        assert not [word for word in ("Gerd", "Muster", "Lindenweg", "Kassel", "34117", "12345", "1970") if word in shown], shown


def test_what_is_no_person_stays_in_an_example() -> None:
    text = "Table 'shop.orders' doesn't exist, hostname: web1, filename=/srv/a.php, status: open"
    assert example(text) == text


def test_an_example_is_one_line_of_bounded_length() -> None:
    shown = example("Traceback (most recent call last):\n" + '  File "/a.py"\n\x1b[31m' * 200)
    assert len(shown) <= LONGEST_EXAMPLE
    assert "\n" not in shown
    assert "\x1b" not in shown
    assert shown.startswith('Traceback (most recent call last): File "/a.py" \\x1b[31m')


@pytest.mark.parametrize("logged", [
    "#0 /srv/a.php(3): Auth->login('jane', 'hunter2x')", "#1 [internal function]: PDO->__construct('mysql:host', 'shop', 'hunter2x')",
    "[password] => hunter2x", "'api_key' => 'hunter2x'", "<password>hunter2x</password>", "%22password%22%3A%22hunter2x%22",
    "pass: hunter2x", "pw=hunter2x", 'user_pass="hunter2x"',
    '{"password":["hunter2x"]}', '{"password":{"value":"hunter2x"}}', "sid=hunter2x", "otp=hunter2x", "frontend=hunter2x", "/reset?code=hunter2x",
    "<firstName>hunter2x</firstName>", "INSERT INTO customer VALUES ('hunter2x', 1)", 'Customer "hunter2x" failed',
])
def test_what_dumps_and_traces_give_away_is_hidden(logged: str) -> None:
    assert "hunter" not in example(f"2026-11-27 18:00:00,000 ERROR [shop] {logged}")
    assert "hunter" not in signature(Event("error", logged)) or logged.startswith("#")


@pytest.mark.parametrize("logged", ["Unexpected token < in JSON", "shipping: free", "author: unknown", "HTTP code: 500"])
def test_what_only_looks_so_stays(logged: str) -> None:
    assert example(logged) == logged
