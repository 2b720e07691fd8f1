"""Whether an error that a log names lies in a part of the shop that an update changed."""

import pytest

from monitor.parts import changed_part, level, marked, module, plain, worst_first

KEY = "error:KeyError at payment_gateway.py _reference [payment_gateway]"


@pytest.mark.parametrize(("module_", "change"), [
    ("payment_gateway", "payment-gateway@3"), ("payment_gateway", "payment_gateway"), ("payment-gateway", "Payment Gateway"),
    ("woocommerce", "woocommerce/woocommerce"), ("woocommerce/woocommerce", "woocommerce"), ("woocommerce", "plugins/woocommerce"),
    ("woocommerce", "WooCommerce@9.3.1"), ("Vendor_Module", "Vendor_Module@1.2"), ("vendor/module-cart", "Vendor_Cart"),
    ("Vendor_Cart", "vendor/module-cart@2"), ("@acme/checkout", "@acme/checkout@4.0.0"), ("acme/checkout", "checkout"),
    ("com.acme.payment", "com.acme.payment"), ("acme:theme", "acme/theme"), ("Acme\\Pay", "acme/pay"),
])
def test_spellings_of_one_part(module_: str, change: str) -> None:
    assert changed_part(f"error:X at a.php [{module_}]", ("theme-other", change)) == change


@pytest.mark.parametrize(("module_", "change"), [
    ("payment_gateway", "payment"), ("payment", "payment-gateway"), ("acme/core", "other/core"), ("core", "score"), ("a", "b"), ("a", ""), ("a", "@"),
    ("a", "/"), ("module", "vendor/module-cart"), ("cart", "module"), ("2", "shop@2"), ("/", "@"), ("-", "_x"),
])
def test_other_parts(module_: str, change: str) -> None:
    assert changed_part(f"error:X at a.php [{module_}]", (change,)) == ""


@pytest.mark.parametrize("name", [
    "error:X", "error:X []", "error:X [a", "error:X [a] and more", "error:[a]", "", "error:" + "[" * 500, "error:X [" + "a" * 500 + "]"])
def test_without_a_module_nothing_is_blamed(name: str) -> None:
    assert (module(name), changed_part(name, ("a", "", "[a]"))) == ("", "")


def test_a_name_in_words() -> None:
    assert (level(KEY), plain(KEY), module(KEY)) == ("error", "KeyError at payment_gateway.py _reference [payment_gateway]", "payment_gateway")
    assert (level("changed:warning:slow [x]"), plain("changed:warning:slow [x]"), module("changed:warning:slow [x]")) == ("warning", "slow [x]", "x")
    assert (level("odd"), plain("odd: error: x"), plain("critical:")) == ("", "odd: error: x", "")


def test_what_tells_most_comes_first() -> None:
    found = {"error:(others)": 999.0, "error:often": 50.0, "warning:often": 900.0, "critical:once": 1.0, "error:once": 1.0, "odd": 5000.0,
             "changed:warning:x [x]": 1.0}
    assert worst_first(found) == ["changed:warning:x [x]", "critical:once", "error:often", "error:once", "warning:often", "odd", "error:(others)"]


def test_counts_of_errors_in_changed_parts_are_marked_and_no_others() -> None:
    counts = {"lines": 9, f"signature/{KEY}": 2, "signature/warning:slow [theme]": 3, "signature/warning:slow": 4, "payment_gateway": 5}
    assert marked(counts, ("payment-gateway",)) == {
        "lines": 9, f"signature/changed:{KEY}": 2, "signature/warning:slow [theme]": 3, "signature/warning:slow": 4, "payment_gateway": 5}
    assert list(marked(counts, ("payment-gateway",)).values()) == list(counts.values())
    assert marked(counts, ()) is counts
    assert marked(counts, ("search",)) is counts
