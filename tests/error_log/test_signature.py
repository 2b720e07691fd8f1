"""The name of an error: what tells errors apart is in it, what differs each time is not."""

import re
from random import Random

import pytest
from cpu import least
from hypothesis import given
from hypothesis import strategies as st

from probes.error_log.event import Event, Frame
from probes.error_log.masks import masked
from probes.error_log.seen import key
from probes.error_log.signature import LONGEST_NAME, signature

VIEW = Frame("/srv/shop/releases/20261127021402/shop/views.py", "pay")


def name(message: str) -> str:
    return signature(Event("error", message))


@pytest.mark.parametrize(("message", "template"), [
    ("Payment cf503b37-9352-4476-a88c-a1677e8159d8 of order 4255481 was declined", "Payment * of order * was declined"),
    ("Payment abcdefab-abcd-4bcd-abcd-abcdefabcdef was declined", "Payment * was declined"),
    ("Session a3f1-beef-cafe ended", "Session * ended"),
    ("Only 19 of SKU-CF503 left, 20 wanted", "Only * of SKU-* left, * wanted"),
    ("Only 19 of SKU-CAFEE left, 20 wanted", "Only * of SKU-* left, * wanted"),
    ("Charge pay_5Kx92mQpl7T2 was declined", "Charge pay_* was declined"),
    ("fraud score 0.54 for order #6503239 from 10.117.192.7, review needed", "fraud score * for order #* from *, review needed"),
    ("at 2026-11-27T02:14:02.123Z, 27.11.2026 02:14", "at *"),
    ("took 12.5 ms, 4194304 bytes", "took * ms, * bytes"),
    ("ids 1, 2, 3 and [4,5,6]", "ids * and [*]"),
    ("Stock would become -20", "Stock would become *"),
    ("Mail to anna.muster@example.org bounced", "Mail to * bounced"),
    ("no resolver defined to resolve anna-e3e7c2.shop.example", "no resolver defined to resolve *"),
    ("POST https://api.pay.example/v1/charges/8f3a?x=1 answered 503", "POST * answered *"),
    ('open() "/srv/shop/media/a/e3e7c2094cac" failed (2: No such file or directory)', 'open() "*" failed (*: No such file or directory)'),
    ("Not Found: /anna/f00.php", "Not Found: *"),
    ("include(/srv/releases/2026/themes/a/banner.php): Failed to open", "include(banner.php): Failed to open"),
    ("checkout/summary.html", "checkout/summary.html"),
    ("themes/anna-12/cart.html", "themes/*/cart.html"),
    ("session 4hk3v9s0qm2t8xwz7c1nbd5pfg", "session *"),
    ("token dGhpcyBpcyBhIHRlc3QgMTIzNDU2Nzg5MDEyMzQ= refused", "token * refused"),
])
def test_what_differs_each_time_becomes_a_star(message: str, template: str) -> None:
    assert name(message) == f"error:{template}"


@pytest.mark.parametrize(("one", "other"), [
    ('Undefined array key "tax_class"', 'Undefined array key "shipping_method"'),
    ("Undefined index: coupon_12", "Undefined index: voucher_12"),
    ("Undefined variable $total", "Undefined variable $sum"),
    ("Call to undefined method Voucher::refund()", "Call to undefined method Voucher::lock()"),
    ("Cannot read properties of undefined (reading 'price')", "Cannot read properties of undefined (reading 'stock')"),
    ("Table 'shop.orders' doesn't exist", "Table 'shop.carts' doesn't exist"),
    ("Unknown column 'discount_code' in 'SELECT'", "Unknown column 'loyalty_points' in 'SELECT'"),
    ('limiting requests, excess: 0.9 by zone "login"', 'limiting requests, excess: 0.9 by zone "search"'),
    ('Class "Acme\\Client\\Stripe" not found', 'Class "Acme\\Client\\Adyen" not found'),
    ("'NoneType' object has no attribute 'price'", "'NoneType' object has no attribute 'sku'"),
    ('relation "orders" does not exist', 'relation "carts" does not exist'),
    ("Duplicate entry 'R-12' for key 'orders_number'", "Duplicate entry 'R-12' for key 'orders_mail'"),
    ("Payment 12 was declined: insufficient funds", "Payment 12 was declined: card expired"),
])
def test_errors_of_different_kinds_have_different_names(one: str, other: str) -> None:
    assert name(one) != name(other)


@pytest.mark.parametrize(("one", "other"), [
    ("Duplicate entry 'R-12' for key 'orders_number'", "Duplicate entry 'anna' for key 'orders_number'"),
    ("Access denied for user 'anna'@'10.0.0.1' (using password: YES)", "Access denied for user 'shop_bert'@'10.0.0.2' (using password: YES)"),
    ('No shipping zone for country "PL"', 'No shipping zone for country "DE"'),
    ("No rate for 'PLN'", "No rate for 'GBP'"),
    ("invalid literal for int() with base 10: 'anna3f'", "invalid literal for int() with base 10: 'twelve'"),
    ('user "anna0" was not found in "/etc/users"', 'user "bert" was not found in "/etc/users"'),
    ("open() '/srv/a' failed", "open() '/srv/b/c.pdf' failed"),
    ("Invalid HTTP_HOST header: 'anna7.example.net'", "Invalid HTTP_HOST header: 'shop.example.org'"),
])
def test_values_do_not_make_another_name(one: str, other: str) -> None:
    assert name(one) == name(other)


def test_an_exception_comes_with_the_shops_own_frame_and_its_module() -> None:
    library = Frame("/srv/venv/lib/python3.11/site-packages/django/db/models/query.py", "get")
    event = Event("error", "Product matching query does not exist.", "django.request", "shop.models.Product.DoesNotExist", (library, VIEW))
    assert signature(event) == "error:Product.DoesNotExist: Product matching query does not exist. in views.py pay [shop]"


def test_a_class_stands_for_its_file() -> None:
    frame = Frame("/srv/app/code/Acme/Stock/Model/Reservation.php", "Acme\\Stock\\Model\\Reservation.reserve")
    event = Event("critical", "Only 1 of SKU-7 left", exception="Acme\\Stock\\OutOfStock", frames=(frame,))
    assert signature(event) == "critical:OutOfStock: Only * of SKU-* left in Reservation.reserve [Acme_Stock]"


def test_the_key_of_a_key_error_tells() -> None:
    names = {signature(Event("error", f"'{wanted}'", exception="KeyError", frames=(VIEW,))) for wanted in ("three_ds", "voucher")}
    assert names == {"error:KeyError: 'three_ds' in views.py pay [shop]", "error:KeyError: 'voucher' in views.py pay [shop]"}


def test_the_same_error_of_another_plugin_is_another_one() -> None:
    message, place = 'Undefined array key "tax_class"', "/srv/wp-content/plugins/{}/a.php"
    assert signature(Event("warning", message, frames=(Frame(place.format("gift-cards")),))) == 'warning:Undefined array key "tax_class" [gift-cards]'
    assert signature(Event("warning", message, frames=(Frame(place.format("vouchers")),))) == 'warning:Undefined array key "tax_class" [vouchers]'


def test_a_release_does_not_change_the_name() -> None:
    paths = [f"/srv/shop/releases/{release}/shop/views.py" for release in ("20261102091500", "20261127021402", "3f9c1d7ab204")]
    assert len({signature(Event("error", "x", exception="KeyError", frames=(Frame(path, "pay"),))) for path in paths}) == 1


def test_who_logged_it_stands_in_for_the_module() -> None:
    assert signature(Event("error", "Stock service is away", "shop.checkout")) == "error:Stock service is away [shop.checkout]"
    assert signature(Event("error", "Stock service is away", "see <here>")) == "error:Stock service is away"


def test_what_php_says_through_nginx_is_not_quoted_away() -> None:
    assert name('FastCGI sent in stderr: "Primary script unknown" while reading response header from upstream') == "error:Primary script unknown"
    assert name('FastCGI sent in stderr: "PHP message: [checkout] no stock"') == "error:[checkout] no stock"


def test_long_names_end_in_a_hash_that_keeps_them_apart() -> None:
    one, other = (name(f"{'one word and another ' * 15}{end}") for end in ("first", "second"))
    assert one != other
    assert len(one) <= LONGEST_NAME
    assert re.search(r"…[0-9a-f]{8}$", one)
    assert one == name(f"{'one word and another ' * 15}first")


def test_the_module_is_kept_when_the_message_is_cut() -> None:
    event = Event("error", "word " * 100, exception="a.b.Broken", frames=(Frame("/srv/wp-content/plugins/vouchers/a.php", "Voucher.redeem"),))
    assert signature(event).endswith(" in Voucher.redeem [vouchers]")
    assert len(signature(event)) <= LONGEST_NAME


TEXTS = st.text(st.sampled_from("abcdefxyzEFQ0123456789 -_.:/'\"@()[]{}=,#*\\\n\té…%"), max_size=120) | st.text(max_size=80)


FRAMES = st.lists(st.builds(Frame, TEXTS, TEXTS), max_size=3).map(tuple)


@given(st.builds(Event, st.sampled_from(["critical", "error", "warning"]), TEXTS, TEXTS, TEXTS, FRAMES))
def test_any_event_has_a_printable_name_of_one_line(event: Event) -> None:
    given_ = signature(event)
    assert given_.startswith(f"{event.level}:")
    assert len(given_) <= LONGEST_NAME
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202e\ud800-\udfff]", given_)
    assert signature(event) == given_


@given(TEXTS, st.randoms())
def test_digits_do_not_matter(text: str, random: Random) -> None:
    """Neither which ones, nor how many at a place: the scanner does not look at them."""
    choose, length = random.choice, random.randint
    other = re.sub(r"[0-9]+", lambda _: "".join(choose("0123456789") for _ in range(length(1, 9))), text)
    assert masked(other) == masked(text)


WORDS = ("order", "of", "8f3a22c1", "failed:", "12", "'shop_4'", "pay_7ab3", "SKU-CF503", "(2:", "a1b2", "price7", "at", "/srv/a1/x.php")


@given(st.lists(st.sampled_from(WORDS), max_size=12), st.randoms())
def test_what_has_the_same_key_has_the_same_name(words: list[str], random: Random) -> None:
    def again(word: str) -> str:
        hexlike = re.fullmatch(r"[0-9a-f]*[0-9][0-9a-f]*", word)
        choose = random.choice
        return choose("123456789") + "".join(choose("0123456789abcdef") for _ in word) if hexlike else re.sub(
            r"\d", lambda _: choose("123456789"), word)

    one, other = " ".join(words), " ".join(map(again, words))
    assert key(one.encode()) == key(other.encode())
    assert name(one) == name(other)


def test_errors_that_differ_in_words_have_different_keys() -> None:
    texts = [b"Undefined index: cafe", b"Undefined index: face", b"a b c", b"a 12 c", b"item_5 gone", b"order_5 gone"]
    assert len(set(map(key, texts))) == len(texts)


def test_only_numbers_and_hashes_are_left_out_of_keys() -> None:
    assert key(b"Payment cf503b37-9352 of pay_7ab3 and item7 failed") == b"Payment *-* of pay-* and item failed"


def test_the_key_of_a_long_trace_has_its_last_line_without_hashes() -> None:
    frames = b"".join(b'  File "/srv/a.py", line %d, in f\n' % line for line in range(200))
    one, other = (key(b"Traceback (most recent call last):\n" + frames + b"KeyError: '" + token + b"'") for token in (b"8f3a22", b"77bc0d"))
    assert one == other
    assert one != key(b"Traceback (most recent call last):\n" + frames + b"ValueError: '8f3a22'")


@pytest.mark.parametrize("unit", [
    "a", "0", "a0", "'", '" "', "/a", "a/", "a.", "a@", "0 ", "0.", "*", "a-", "::", "deadbeef0", "[", 'name="', "x://", "-1.1", "\n", "é"])
def test_hostile_events_take_a_moment(unit: str) -> None:
    text = unit * (16 * 1024 // len(unit))
    event, said = Event("error", text, text, text, (Frame(text, text),)), text.encode()
    assert least(lambda: (signature(event), key(said))) < 0.1    # 6 ms for the worst on a quiet machine
