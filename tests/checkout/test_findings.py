"""Names of findings are the same in each run, whatever differs; what says failure is told from what only looks like it."""

import json
import time

import pytest

from probes.checkout.addresses import Hosts, host_name, module, place, shown
from probes.checkout.answers import failure
from probes.checkout.findings import KINDS, MOST, Found, Kind
from probes.checkout.soft_errors import soft_error
from probes.checkout.traffic import Asked, answered, console, failed, page_error

HOSTS = Hosts.of("https://www.shop.example/", ("shop.example", "*.psp.example"))


def name(kind: Kind, said: str, url: str = "", *, fixed: bool = False) -> str:
    found = Found(HOSTS)
    found.add(kind, said, step="pay", url=url, fixed=fixed)
    return next(iter(found.by_name))


@pytest.mark.parametrize(("host", "own", "reached"), [
    ("shop.example", True, True), ("www.shop.example", True, False), ("static.shop.example", True, False), ("psp.example", False, False),
    ("js.psp.example", False, True), ("notshop.example", False, False), ("", False, False), ("a." * 500 + "psp.example", False, True)])
def test_hosts_are_told_apart(host: str, own: bool, reached: bool) -> None:
    assert (HOSTS.is_own(host), HOSTS.may_reach(host)) == (own, reached)


def test_without_a_list_anything_can_be_reached() -> None:
    assert Hosts.of(["shop.example"]).may_reach("anything.example")


@pytest.mark.parametrize(("one", "other"), [
    ("/static/checkout.3f2a9c1b.js?v=1", "/static/checkout.99887766aabb.js?v=2"),
    ("/assets/index-CkdZpqLr.js", "/assets/index-Bv_x-Kd3.js"),
    ("/static/version1699999999/frontend/Magento/luma/en_US/js/x.js", "/static/version17/frontend/Magento/luma/en_US/js/x.js"),
    ("/order/4711/pay", "/order/9/pay"),
    ("/rest/V1/guest-carts/Zk3bQ9xJ2mWv8sLtPq1RaYcD4eFgHi6n/payment", "/rest/V1/guest-carts/a1B2c3D4e5F6g7H8i9J0kLmNoPqRsTuV/payment"),
    ("/b/fadebeef-cafe-beef-dead-abcdefabcdef/x", "/b/12345678-1234-1234-1234-123456789012/x"),
    ("/?wc-ajax=checkout&nonce=a1", "/?nonce=zz&wc-ajax=checkout")])
def test_a_place_is_the_same_each_time(one: str, other: str) -> None:
    assert place(f"https://shop.example{one}", HOSTS) == place(f"https://shop.example{other}", HOSTS)


@pytest.mark.parametrize(("one", "other"), [
    ("/static/cartItem.js", "/static/checkout.js"), ("/?wc-ajax=checkout", "/?wc-ajax=add_to_cart"),
    ("/index.php?route=checkout/confirm", "/index.php?route=checkout/cart"), ("/assets/main-sidebar.js", "/assets/main-checkout.js")])
def test_different_places_stay_apart(one: str, other: str) -> None:
    assert place(f"https://shop.example{one}", HOSTS) != place(f"https://shop.example{other}", HOSTS)


@pytest.mark.parametrize(("path", "belongs"), [
    ("/wp-content/plugins/paynow/assets/pay.min.js?ver=6", "paynow"),
    ("/static/version17/frontend/Magento/luma/en_US/Acme_Stock/js/view.js", "Acme_Stock"),
    ("/bundles/acmepay/js/app.js", "acmepay"), ("/static/checkout.3f2a9c1b.js", "checkout"), ("/cart", ""), ("/a[b]/x.js", "x")])
def test_the_plugin_of_a_file(path: str, belongs: str) -> None:
    assert module(f"https://shop.example{path}") == belongs


def test_an_address_is_shown_without_values() -> None:
    told = shown("https://u:pw123456@shop.example:8443/pay/4111111111111111?token=abcdefgh&email=a@b.example&route=checkout/pay")
    assert told == "https://shop.example:8443/pay/[card …1111]?token&email&route=checkout/pay"
    assert shown("data:text/html;base64,c2VjcmV0") == "data:"
    assert shown("http://[bad") == "http:"


def test_what_a_page_error_is_called() -> None:
    stack = ("TypeError: x is undefined\n    at g (https://cdn.example/lib.js:1:2)\n"
             "    at pay (https://shop.example/wp-content/plugins/paynow/checkout.a81bc81b.js?ver=6&k=secret:10:25)")
    remark = page_error("TypeError", "Cannot read properties of undefined (reading 'total')", stack, "https://shop.example/checkout", HOSTS)
    told = name(remark.kind, remark.said, remark.url)
    assert told == ("error:page error TypeError: Cannot read properties of undefined (reading 'total') "
                    "in /wp-content/plugins/paynow/checkout.*.js [paynow]")
    assert "secret" not in remark.text


def test_a_name_does_not_know_ids_and_prices() -> None:
    where = "https://shop.example/checkout"
    assert name("console", "order 4711 of erika@mail.example: 12,50 EUR", where) == name("console", "order 9 of max@mail.example: 7,00 EUR", where)
    assert "mail.example" not in name("console", "order 4711 of erika@mail.example", where)


def test_names_are_one_printable_line_within_the_limit() -> None:
    for said in ("x y" * 500, "a\nb\x1b[31m\u202e", "\ud800", "", "é" * 300):
        for url in ("", "https://shop.example/" + "very/long/" * 60 + "file.js", "https://shop.example/wp-content/plugins/" + "p" * 200 + "/a.js"):
            told = name("page_error", said, url)
            assert len(told) <= 160
            assert told.startswith("error:page error")
            assert told.isprintable()
            told.encode()


def test_long_names_that_differ_at_their_end_stay_apart() -> None:
    assert name("console", "word " * 60 + "alpha") != name("console", "word " * 60 + "omega")


def test_secrets_of_the_run_are_in_no_name_and_no_example() -> None:
    found = Found(HOSTS, ("hunter2hunter2",))
    found.add("console", "login with hunter2hunter2 failed for card 4111 1111 1111 1111", step="pay", url="https://shop.example/hunter2hunter2")
    found.add("json", "success is false", step="pay", url="https://shop.example/x?hunter2hunter2=1", fixed=True)
    assert "hunter2" not in repr(found)
    assert "4111 1111" not in "".join(f"{one.name}{one.text}" for one in found.by_name.values())


def test_findings_are_bounded_and_a_flood_of_one_kind_leaves_room() -> None:
    found, words = Found(HOSTS), [f"{a}{b}{c}" for a in "ghijkl" for b in "mnopqrstuv" for c in "wxyzghijkl"]
    for word in words:
        found.add("console", f"failed {word}", step="pay")
        found.add("third_party", f"{word}.example", step="pay", fixed=True)
    found.add("page_error", "TypeError: late", step="pay")
    assert len(found.by_name) <= MOST
    assert found.counts["console_errors"] == len(words)
    assert sum(one.count for one in found.by_name.values() if one.kind == "console") == len(words)
    assert found.told("pay")[0].name == "error:page error TypeError: late"


def test_the_most_telling_comes_first() -> None:
    found = Found(HOSTS)
    for kind in reversed(KINDS):
        found.add(kind, kind, step="pay", fixed=True)
    assert [one.kind for one in found.told("pay")] == [kind for kind in KINDS if kind not in ("third_party", "script", "robots")]
    assert [one.kind for one in found.told("pay")][:3] == ["document", "page_error", "asset"]
    assert found.told("another") == []


# answers

@pytest.mark.parametrize("body", [
    {"success": False, "data": []}, {"result": "failure", "messages": "<ul><li>Bad</li></ul>"}, {"status": "error"}, {"errors": ["Out of stock"]},
    {"error": {"warning": "Payment method required"}}, {"error": "no stock"}, {"errors": {"email": ["This field is required"]}}, {"hasError": True},
    {"payment_result": {"payment_status": "failure"}}, {"responses": [{"status": 200}, {"status": 409, "body": {}}]}, {"success": "false"},
    {"status": 500, "title": "Internal Server Error"}, [{"data": None, "errors": [{"message": "boom"}]}], {"error": True, "message": "x"},
    {"ok": False},
    {"data": {"success": False}}])
def test_json_that_says_failure(body: object) -> None:
    assert failure(json.dumps(body).encode())


@pytest.mark.parametrize("body", [
    {"success": True}, {"errors": [], "error": None, "messages": []}, {"error": ""}, {"error": False}, {"error": "0"}, {"errors": {"email": []}},
    {"errors": {}}, {"status": "ok", "message": "An error-free day"}, {"result": "success"}, {"product": {"name": "Error", "status": "error-proof"}},
    {"status": 200}, {"status": 450}, {"error_count": 3}, {"success": 1}, [], [1, 2], "error", 7, None, {"error": 0}, {"success": None},
    {"items": [{"success": False}]}, {"status": "processing"}, {"error": "none"}])
def test_json_that_does_not(body: object) -> None:
    assert failure(json.dumps(body).encode()) is None


def test_what_is_no_json_says_nothing() -> None:
    for body in (b"", b"<html>", b"\xff\xfe", b"[" * 60_000, b'{"success": false', b'{"success": false, "x": "' + b"x" * 70_000 + b'"}'):
        assert failure(body) is None


def test_the_words_of_a_failure_have_no_markup() -> None:
    told = failure(b'{"result":"failure","messages":"<ul class=\\"e\\"><li>Card  was <b>refused</b></li></ul>"}')
    assert told == ("result is failure", "Card was refused")


# pages that answer 200

@pytest.mark.parametrize("title", [
    "Internal Error", "Internal Error | A shop", "A shop – Error 500", "500 Internal Server Error", "502 Bad Gateway", "HTTP 404 - Not Found",
    "Seite nicht gefunden » Laden", "Página no encontrada - Tienda", "Error", "There has been a critical error on this website."])
def test_titles_of_errors(title: str) -> None:
    assert soft_error(title)


@pytest.mark.parametrize("title", [
    "Error 404 mug - A shop", "Terror Night - DVD", "Trial and Error: the board game | A shop", "Blue shirt", "", "404",
    "Oops I did it again (CD) - A shop",
    "Route 500 poster | A shop", "How to fix an Internal Error - Books"])
def test_titles_of_products(title: str) -> None:
    assert soft_error(title, [title]) == ""


@pytest.mark.parametrize("alert", [
    "There was an error processing your order. Please contact us.", "Leider ist ein Fehler aufgetreten.", "Une erreur s’est produite, désolé",
    "Lo sentimos, se ha producido un error", "Er is iets misgegaan", "Si è verificato un errore.", "Oops! Something went wrong.",
    "A problem occurred communicating with the bank", "Exception printing is disabled by default for security reasons."])
def test_alerts_of_errors_in_six_languages(alert: str) -> None:
    assert soft_error("A shop", ["Checkout"], [alert])


@pytest.mark.parametrize("alert", [
    "Only 2 left", "Please enter your street", "Free shipping from 50 EUR", "Your coupon was applied",
    "The card number is wrong"])
def test_alerts_that_are_no_error_of_the_shop(alert: str) -> None:
    assert soft_error("A shop", ["Checkout"], [alert]) == ""


def test_what_php_prints() -> None:
    assert soft_error("A shop", printed=["Fatal error:  Uncaught TypeError: x(): Argument #1 in"]) == "php fatal error"
    assert soft_error("A shop", printed=["Warning: contains nuts"]) == ""


# requests

@pytest.mark.parametrize(("asked", "why", "left", "kind"), [
    (Asked("GET", "https://shop.example/a.css", "stylesheet"), "net::ERR_ABORTED", False, "asset"),
    (Asked("GET", "https://shop.example/a.css", "stylesheet"), "net::ERR_ABORTED", True, None),
    (Asked("GET", "https://shop.example/a.png", "image"), "net::ERR_ABORTED", False, None),
    (Asked("GET", "https://shop.example/", "document", main=True), "net::ERR_ABORTED", False, None),
    (Asked("POST", "https://shop.example/api", "xhr"), "NS_BINDING_ABORTED", False, None),
    (Asked("POST", "https://shop.example/api", "xhr"), "net::ERR_CONNECTION_RESET", False, "request"),
    (Asked("GET", "https://shop.example/", "document", main=True), "net::ERR_CONNECTION_REFUSED", False, "document"),
    (Asked("GET", "https://ads.example/a.js", "script"), "net::ERR_NAME_NOT_RESOLVED", False, None),
    (Asked("GET", "https://js.psp.example/a.js", "script"), "net::ERR_NAME_NOT_RESOLVED", False, "third_party_failed"),
    (Asked("GET", "https://shop.example/a.js", "script"), "net::ERR_INTERNET_DISCONNECTED", False, None),
    (Asked("GET", "https://shop.example/a.js", "script"), "csp", False, None), (Asked("GET", "blob:x", "script"), "x", False, None)])
def test_requests_that_failed(asked: Asked, why: str, left: bool, kind: str | None) -> None:
    remark = failed(asked, why, HOSTS, left=left)
    assert (remark.kind if remark else None) == kind


@pytest.mark.parametrize(("asked", "status", "media", "kind"), [
    (Asked("GET", "https://shop.example/a.js", "script"), 200, "text/javascript", None),
    (Asked("GET", "https://shop.example/a.js", "script"), 200, "", None),
    (Asked("GET", "https://shop.example/a.js", "script"), 200, "text/html", "asset"),
    (Asked("GET", "https://shop.example/a.js", "script"), 304, "text/html", None),
    (Asked("GET", "https://shop.example/a.js", "script"), 302, "text/html", None),
    (Asked("GET", "https://shop.example/a.css", "stylesheet"), 200, "application/json", "asset"),
    (Asked("GET", "https://shop.example/favicon.ico", "other"), 404, "", None),
    (Asked("GET", "https://shop.example/api", "fetch"), 422, "", "xhr"),
    (Asked("GET", "https://shop.example/", "document", main=True), 500, "", "document"),
    (Asked("GET", "https://bank.example/3ds", "document", main=True), 502, "", "document"),
    (Asked("GET", "https://cdn.example/a.js", "script"), 404, "", "third_party_failed"),
    (Asked("GET", "https://cdn.example/a.js", "script"), 200, "text/html", None)])
def test_answers(asked: Asked, status: int, media: str, kind: str | None) -> None:
    remark = answered(asked, status, media, HOSTS)
    assert (remark.kind if remark else None) == kind


def test_the_console_repeats_no_request() -> None:
    where = "https://shop.example/checkout"
    assert console("error", "Failed to load resource: the server responded with a status of 404 ()", where, HOSTS) is None
    assert console("error", "Access to fetch at 'https://x.example' from origin 'y' has been blocked by CORS policy", where, HOSTS) is None
    assert console("warning", "deprecated", where, HOSTS) is None
    firefox = "The resource from “https://shop.example/a.css” was blocked due to MIME type (“text/html”) mismatch (X-Content-Type-Options: nosniff)."
    told = console("error", firefox, where, HOSTS)
    assert told is not None
    assert told == failed(Asked("GET", "https://shop.example/a.css", "stylesheet"), "net::ERR_ABORTED", HOSTS, left=False)


def test_hosts_with_long_numbers_are_one() -> None:
    assert host_name("12345678.fls.ads.example") == host_name("87654321.fls.ads.example") == "*.fls.ads.example"
    assert host_name("d1a2b3.cdn.example") != host_name("d9z8y7.cdn.example")       # another of these is news
    assert host_name("198.51.100.7") == "[ip]"


def test_hostile_texts_take_linear_time() -> None:
    """Every way in, with what makes a backtracking pattern slow."""
    awkward = ["a" * 200_000, "http://" * 30_000, "<" * 100_000, "https://shop.example/" + "%41-" * 50_000, "x@" * 50_000, "' " * 60_000,
               "https://shop.example/a.js:" * 8000, "error: " * 20_000, ("[" * 400 + "]" * 400) * 100, "1-" * 80_000]
    begun = time.thread_time()
    for text in awkward:
        found = Found(HOSTS, ("hunter2hunter2",))
        found.add("console", text, step="s", url=text, text=text)
        remark = page_error(text, text, text, text, HOSTS)
        found.add("page_error", remark.said, step="s", url=remark.url, text=remark.text)
        console("error", text, text, HOSTS)
        soft_error(text, [text], [text], [text])
        failure(json.dumps({"success": False, "message": text[:60_000]}).encode())
        shown(text)
        shown(f"https://shop.example/?{text}")
    assert time.thread_time() - begun < 5
