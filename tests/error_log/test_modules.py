"""Whose code a path is."""

import pytest

from probes.error_log.event import Frame
from probes.error_log.modules import is_foreign, module_of, top_own

ROOT = "/srv/shop/releases/20261127021402"


@pytest.mark.parametrize(("path", "name"), [
    (f"{ROOT}/wp-content/plugins/acme-vouchers/includes/class-voucher.php", "acme-vouchers"),
    ("/var/www/html/wp-content/plugins/hello.php", "hello"),
    ("/var/www/html/wp-content/mu-plugins/shop-limits.php", "shop-limits"),
    ("/var/www/html/wp-content/mu-plugins/limits/limits.php", "limits"),
    ("/var/www/html/wp-content/themes/boutique/functions.php", "boutique"),
    ("/var/www/html/wp-content/plugins/acme-vouchers/vendor/guzzlehttp/guzzle/src/Client.php", "acme-vouchers"),
    (r"C:\inetpub\shop\wp-content\plugins\acme-vouchers\a.php", "acme-vouchers"),
    ("/srv/magento/app/code/Acme/Stock/Model/Reservation.php", "Acme_Stock"),
    ("/srv/magento/vendor/acme/module-payment/Model/Gateway.php", "acme/module-payment"),
    ("/srv/magento/app/design/frontend/Acme/boutique/templates/a.phtml", "Acme/boutique"),
    ("/srv/shopware/custom/plugins/AcmeShipping/src/Rates.php", "AcmeShipping"),
    ("/srv/shopware/custom/apps/AcmeApp/Resources/a.js", "AcmeApp"),
    ("/srv/shopware/custom/static-plugins/AcmePay/src/Pay.php", "AcmePay"),
    ("/srv/sw5/engine/Shopware/Plugins/Community/Frontend/AcmeSeo/Bootstrap.php", "AcmeSeo"),
    ("/srv/opencart/catalog/controller/extension/module/acme_vouchers.php", "acme_vouchers"),
    ("/srv/opencart/extension/acme_pay/catalog/controller/payment/acme.php", "acme_pay"),
    ("/srv/presta/modules/acmepay/acmepay.php", "acmepay"),
    ("/srv/drupal/web/modules/contrib/commerce/src/Cart.php", "commerce"),
    ("/srv/app/vendor/guzzlehttp/guzzle/src/Client.php", "guzzlehttp/guzzle"),
    ("/srv/app/node_modules/express/lib/router/index.js", "express"),
    ("/srv/app/node_modules/@acme/payments/lib/charge.js", "@acme/payments"),
    ("/srv/app/node_modules/.pnpm/express@4.18.2/node_modules/express/lib/router.js", "express"),
    ("/srv/app/node_modules/a/node_modules/b/index.js", "b"),
    ("/srv/venv/lib/python3.11/site-packages/django/db/models/query.py", "django"),
    ("/usr/lib/python3/dist-packages/six.py", "six"),
    ("/srv/shop/vendor/bundle/ruby/3.1.0/gems/rack-3.0.8/lib/rack/builder.rb", "rack"),
    ("/var/lib/gems/3.1.0/gems/spree-core-4.2.0.rc2/lib/spree.rb", "spree-core"),
    (f"{ROOT}/shop/payment_gateway.py", "payment_gateway"),
    (f"{ROOT}/shop/views.py", "shop"),
    (f"{ROOT}/checkout/views/__init__.py", "checkout"),
    ("/srv/shop/src/checkout.js", "checkout"),
    ("/srv/shop-1.2.3/lib/orders.php", "orders"),
    ("com/acme/shop/Gateway.java", "com.acme.shop"),
    ("Shop/Pay/Gateway.cs", "Shop.Pay"),
    ("<frozen importlib._bootstrap>", ""),
    ("[internal function]", ""),
    ("/usr/sbin/nginx", ""),
    ("", ""),
])
def test_the_module_of_a_path(path: str, name: str) -> None:
    assert module_of(path) == name


@pytest.mark.parametrize("path", [
    "/srv/shop/{}/shop/views.py",
    "/srv/{}/wp-content/plugins/a/a.php", "/srv/{}/views.py", "/opt/shop/{}/node_modules/x/i.js", "/srv/shop/{}/Model/index.php",
])
def test_a_release_does_not_change_it(path: str) -> None:
    releases = ["releases/20261127021402", "releases/v41", "1.2.3", "v2.0.1", "3f9c1d7ab204", "20261127", "versions/abc", "2.1.0-rc1"]
    assert len({module_of(path.format(release)) for release in releases}) == 1


@pytest.mark.parametrize("path", [
    "/srv/v/lib/python3.11/site-packages/django/x.py", "/usr/lib/python3.11/json/decoder.py", "/var/www/wp-includes/plugin.php",
    "/var/www/wp-settings.php", "/srv/a/vendor/guzzlehttp/guzzle/src/Client.php", "/srv/a/vendor/magento/module-checkout/Model/Cart.php",
    "/srv/a/node_modules/express/index.js",
    "node:internal/process/task_queues", "<frozen runpy>", "java/lang/Integer.java", "org/springframework/web/X.java", "System/Net/Http.cs",
    "/usr/share/php/Monolog/Logger.php"])
def test_the_code_of_others(path: str) -> None:
    assert is_foreign(path)


@pytest.mark.parametrize("path", [
    "/var/www/wp-content/plugins/a/a.php", "/srv/a/vendor/acme/module-payment/Model/Gateway.php", "/srv/a/app/code/Acme/Stock/Model/R.php",
    "com/acme/shop/Gateway.java", "/srv/shop/views.py", "app/models/voucher.rb", "Shop/Pay/Gateway.cs"])
def test_the_shops_own_code(path: str) -> None:
    assert not is_foreign(path)


def test_the_top_frame_of_ones_own_and_else_the_top_one() -> None:
    library, own, other = Frame("/x/site-packages/django/a.py", "get"), Frame("/srv/shop/views.py", "pay"), Frame("/srv/shop/main.py", "run")
    assert top_own((library, own, other)) == own
    assert top_own((library,)) == library
    assert top_own(()) is None


def test_a_giant_path_takes_a_moment() -> None:
    assert module_of("/a1.1-1" * 100_000) is not None
    assert module_of("/srv/" + "x" * 100_000 + "/wp-content/plugins/acme/a.php") == "acme"
