"""Access logs: requests by group of paths, what failed, what was slow, and the checkouts among them."""

import random

import pytest
from test_scan import in_pieces, same, whole

from probes.error_log.access import GROUPS, Requests, pattern
from probes.error_log.engine import compiled
from probes.error_log.scan import Scanner
from probes.error_log.tally import Tally


def line(request: str = "GET / HTTP/1.1", status: int = 200, end: str = "") -> str:
    browser = "Mozilla/5.0 (X11) Safari/604.1"
    return f'192.0.2.7 - - [27/Nov/2026:18:00:00 +0000] "{request}" {status} 512 "https://shop.example/checkout" "{browser}"{end}\n'


def counts(text: str, **options: object) -> dict[str, int]:
    return {name: count for name, count in whole("combined", text, **options).counts().items() if not name.startswith("signature/")}


def test_what_is_counted() -> None:
    text = "".join(line(f"{request} HTTP/1.1", status) for request, status in (
        ("GET /checkout", 200), ("POST /checkout/pay", 302), ("POST /checkout/pay", 422), ("POST /checkout", 502), ("GET /product/12", 200),
        ("GET /product/13", 500), ("POST /search", 500), ("GET /", 404)))
    assert counts(text) == {
        "lines": 8, "events/critical": 0, "events/error": 3, "events/warning": 0, "requests": 8, "server_errors": 3, "checkout_posts": 3,
        "failed_checkout_posts": 2, "requests/checkout": 4, "server_errors/checkout": 1, "requests/catalogue": 2, "server_errors/catalogue": 1,
        "requests/search": 1, "server_errors/search": 1, "requests/other": 1, "server_errors/other": 0}


@pytest.mark.parametrize(("path", "group"), [
    ("/checkout", "checkout"), ("/checkout/onepage/success/", "checkout"), ("/?wc-ajax=checkout", "checkout"),
    ("/index.php?route=checkout/confirm", "checkout"), ("/cart", "cart"), ("/cart/", "cart"), ("/basket/add/12/", "cart"),
    ("/?wc-ajax=add_to_cart", "cart"),
    ("/index.php?route=product/product&product_id=1", "catalogue"), ("/product/blue-shoes/", "catalogue"), ("/catalogue/blue_12/", "catalogue"),
    ("/detail/0a1b2c", "catalogue"), ("/catalogsearch/result/?q=x", "search"), ("/?s=shoes", "search"), ("/search?q=x", "search"),
    ("/rest/V1/orders", "api"),
    ("/graphql", "api"), ("/store-api/product", "api"), ("/wp-json/wc/v3", "api"), ("/my-account/", "account"),
    ("/customer/account/login", "account"), ("/wp-content/a.js", "static"), ("/media/catalog/1.jpg", "static"),
    ("/", "other"),
    ("/blue-shoes.html", "other"),
    ("https://shop.example/cart", "cart"),
])
def test_the_usual_groups(path: str, group: str) -> None:
    assert counts(line(f"GET {path} HTTP/1.1"))[f"requests/{group}"] == 1


def test_own_groups_and_the_first_that_fits() -> None:
    groups = {"checkout": ["/a/b/c*"], "deep": ["/a/b*"], "all": ["/a*", "/x?y=*"], "none": []}
    found = counts("".join(line(f"POST {path} HTTP/1.1", 500) for path in ("/a/b/c/d", "/a/b/x", "/a/z", "/x?y=1", "/b", "/xab")), groups=groups)
    assert {name: found[f"requests/{name}"] for name in ("checkout", "deep", "all", "other")} == {"checkout": 1, "deep": 1, "all": 2, "other": 2}
    assert found["checkout_posts"] == found["failed_checkout_posts"] == 1


def test_groups_of_the_settings_have_a_checkout() -> None:
    assert next(iter(GROUPS)) == "checkout"


def test_slow_requests_where_times_are_logged() -> None:
    times = (" 0.001", " 1.999", " 2.000", " 17.5", ' "2.5"', ' "0.3"', " -")
    found = counts("".join(line("GET /cart HTTP/1.1", end=end) for end in times))
    assert found["slow"] == found["slow/cart"] == 3
    assert counts("".join(line("GET /cart HTTP/1.1", end=end) for end in times), slow=0.25)["slow"] == 5
    assert counts("".join(line("GET /cart HTTP/1.1", end=end) for end in times), slow=15)["slow"] == 1


def test_a_browser_is_no_time() -> None:
    odd = '192.0.2.7 - - [27/Nov/2026:18:00:00 +0000] "GET / HTTP/1.1" 200 512 "-" "Something 4.5"\n'
    assert "slow" not in counts(odd + line())


@pytest.mark.parametrize("slow", [0.1, 0.25, 0.5, 1, 1.5, 2, 7.25, 9.9, 10, 12.5, 60, 100, 120])
def test_no_slow_request_is_missed_by_the_pattern(slow: float) -> None:
    found, r = compiled(pattern(slow)), random.Random(1)
    for _ in range(2000):
        seconds = r.choice((r.uniform(0, 2 * slow), r.uniform(0, 300), slow, slow + 0.001))
        if float(f"{seconds:.3f}") >= slow:
            assert found.search(line(end=f" {seconds:.3f}").rstrip("\n").encode()), seconds


def test_fast_requests_are_not_looked_at_one_by_one() -> None:
    found = compiled(pattern(2.0))
    assert not any(found.search(line(end=f" {seconds:.3f}").rstrip("\n").encode()) for seconds in (0, 0.2, 0.02, 1.2, 1.999))


def test_signatures_have_no_paths_and_stay_few() -> None:
    scanner, r = Scanner("combined"), random.Random(1)
    for number in range(3000):
        path = r.choice(("/product/", "/", "/checkout/", "/api/")) + "".join(r.choices("abcdefgh-", k=12)) + str(number)
        scanner.read(line(f"{r.choice(('GET', 'POST', 'EVIL'))} {path} HTTP/1.1", r.choice((500, 502, 503, 599))).encode(), True)
    assert len(scanner.tally.signatures) == 4 * 3 * 4
    assert "error:POST of checkout answered: Bad Gateway [access]" in scanner.tally.signatures
    assert "error:OTHER of other answered: server error [access]" in scanner.tally.signatures


def test_an_example_does_not_say_who_it_was() -> None:
    tally = whole("combined", '192.0.2.77 - anna [27/Nov/2026:18:00:00 +0000] "POST /checkout?token=abcdef123456 HTTP/1.1" 502 5 "-" "curl"\n')
    (example,) = (tally.example(name) for name in tally.signatures)
    assert "POST /checkout" in example
    assert "502" in example
    assert not any(secret in example for secret in ("192.0.2.77", "anna", "abcdef123456"))


def test_requests_count_even_when_only_critical_errors_do() -> None:
    found = counts(line(status=500), level="critical")
    assert (found["server_errors"], found["events/error"]) == (1, 0)


def test_nonsense_is_no_request() -> None:
    text = '192.0.2.7 - - [27/Nov/2026:18:00:00 +0000] "\\x16\\x03\\x01" 400 157\n192.0.2.7 - - [x] "-" 408 0\n" 500 \n\x00\n' + line()
    assert counts(text)["requests"] == 1
    assert counts(text)["lines"] == 5


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "re2"])
def test_pieces_and_engines_do_not_matter(fast: bool) -> None:
    r = random.Random(1)
    paths, statuses = ("/checkout", "/cart", "/x", "/product/1"), (200, 302, 404, 500, 502)
    text = "".join(line(f"{r.choice(('GET', 'POST'))} {r.choice(paths)} HTTP/1.1", r.choice(statuses), f" {r.expovariate(1):.3f}")
                   for _ in range(400))
    same(in_pieces("combined", text.encode(), [113, 997], fast=fast), whole("combined", text))
    assert whole("combined", text).counts()["slow"] > 20


@pytest.mark.parametrize("path", [
    "/rest/V1/guest-carts/abc/payment-information", "/wp-json/wc/store/v1/checkout", "/store-api/checkout/order", "/en/checkout/confirm",
    "/de-DE/kasse", "/index.php/checkout/onepage", "/checkout"])
def test_orders_by_whatever_way_are_checkouts(path: str) -> None:
    tally, requests = Tally(), Requests(None, 2.0)
    line = f'192.0.2.1 - - [x] "POST {path} HTTP/1.1" 400 5 "-" "c"\n'.encode()
    requests.count(line, tally)
    requests.look(line.rstrip(), tally)
    assert (tally.checkout_posts, tally.failed_checkout_posts) == (1, 1)
