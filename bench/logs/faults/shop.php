<?php
// The shop's side of the PHP faults: `php run.php KIND SEED` triggers one. The script corpus.py splits this file at the lines
// "//// PATH" into the files of a shop, so that plugins, themes and vendor packages are where such shops have them.

//// run.php
<?php
use Monolog\Logger;
mt_srand((int) ($argv[2] ?? $_GET['seed']));
$kind = $argv[1] ?? $_GET['kind'];
foreach (['wp-includes/plugin.php', 'wp-content/plugins/acme-vouchers/vouchers.php', 'wp-content/plugins/gift-cards/gift.php',
          'wp-content/plugins/quick-checkout/includes/class-checkout.php', 'wp-content/themes/boutique/functions.php',
          'vendor/acme/module-payment/Model/Gateway.php', 'app/code/Acme/Stock/Model/Reservation.php',
          'custom/plugins/AcmeShipping/src/Rates.php', 'lib/orders.php'] as $file) {
    require_once __DIR__ . '/' . $file;
}
function id($from = 1000, $to = 9999999) { return mt_rand($from, $to); }
function hex($length) { $out = ''; while (strlen($out) < $length) { $out .= dechex(mt_rand(0, 15)); } return $out; }
function uuid() { return hex(8) . '-' . hex(4) . '-4' . hex(3) . '-a' . hex(3) . '-' . hex(12); }
function word($words = ['anna', 'bert', 'carla', 'dirk', 'emil', 'frida', 'gerd', 'hanna', 'ida', 'jonas', 'karl', 'lena']) { return $words[array_rand($words)]; }
match ($kind) {
    "hang" => sleep(30),
    'key-shipping' => (new Acme_Vouchers())->shipping(['id' => id()]),
    'key-tax' => (new Acme_Vouchers())->tax(['id' => id()]),
    'key-tax-gift' => (new Gift_Cards())->tax(['id' => id()]),
    'key-item' => (new Acme_Vouchers())->item('item_' . id()),
    'variable-total' => (new Acme_Vouchers())->total(),
    'variable-customer' => (new Gift_Cards())->customer(),
    'property-null' => (new Gift_Cards())->holder(null),
    'no-method-refund' => (new Gift_Cards())->redeem(new Acme_Vouchers()),
    'no-method-lock' => (new Gift_Cards())->lock(new Acme_Vouchers()),
    'member-on-null-gift' => apply_filters('cart', fn() => (new Gift_Cards())->price(null)),
    'member-on-null-checkout' => apply_filters('cart', fn() => (new Quick_Checkout())->price(null)),
    'type-error' => (new Quick_Checkout())->quantity(word(['many', 'few', 'none', 'all'])),
    'type-error-sum' => (new Quick_Checkout())->add_up(word(['many', 'few', 'none', 'all'])),
    'division' => (new Quick_Checkout())->share(id(), 0),
    'memory' => (new Quick_Checkout())->all_orders(id(1000, 90000)),
    'time-limit' => (new Quick_Checkout())->wait_for_stock(),
    'require-missing' => boutique_part('part-' . hex(6)),
    'include-missing' => boutique_banner('/banners/' . word() . '-' . id() . '.php'),
    'class-missing-stripe' => boutique_client('Stripe'),
    'class-missing-adyen' => boutique_client('Adyen'),
    'foreach' => boutique_menu(null),
    'array-to-string' => boutique_title(['a']),
    'payment-declined' => (new \Acme\Payment\Model\Gateway())->authorise(uuid(), id()),
    'payment-captured-twice' => (new \Acme\Payment\Model\Gateway())->capture(uuid(), id()),
    'payment-chained' => (new \Acme\Payment\Model\Gateway())->settle(uuid()),
    'payment-host' => (new \Acme\Payment\Model\Gateway())->call('/v1/payments/' . hex(24) . '?merchant=' . id()),
    'payment-json' => (new \Acme\Payment\Model\Gateway())->decode('{"order": ' . id() . ','),
    'stock-reserved' => (new \Acme\Stock\Model\Reservation())->reserve('SKU-' . strtoupper(hex(5)), id(1, 20)),
    'stock-negative' => (new \Acme\Stock\Model\Reservation())->release('SKU-' . strtoupper(hex(5)), id(1, 20)),
    'shipping-zone' => (new \AcmeShipping\Rates())->zone(strtoupper(word(['de', 'fr', 'it', 'es', 'pl', 'dk', 'se']))),
    'shipping-match' => (new \AcmeShipping\Rates())->speed(word() . id(1, 99)),
    'shipping-cache' => (new \AcmeShipping\Rates())->cached(substr('a:2:{s:4:"rate";i:' . id() . ';s:4:"zon', 0, 20 + id(0, 9))),
    'log-stock' => error_log('[checkout] could not reserve ' . id(1, 9) . ' x SKU-' . strtoupper(hex(5)) . ' for ' . word() . '@example.org: stock service answered 503'),
    'log-fraud' => error_log('[checkout] fraud score 0.' . id(10, 99) . ' for order #' . id() . ' from 10.' . id(0, 255) . '.' . id(0, 255) . '.7, review needed'),
    'sql-table' => orders_query('SELECT * FROM orders_archive WHERE id = ' . id()),
    'sql-column' => orders_query('SELECT discount_code FROM orders WHERE id = ' . id()),
    'sql-column-loyalty' => orders_query('SELECT loyalty_points FROM orders WHERE id = ' . id()),
    'sql-duplicate' => orders_twice('R-' . id()),
    'sql-foreign' => orders_query('INSERT INTO items (order_id, sku) VALUES (' . id(100000) . ', "' . hex(6) . '")'),
    'sql-too-long' => orders_query('INSERT INTO orders (number, status) VALUES ("' . hex(8) . '", "' . str_repeat(word(), 8) . '")'),
    'sql-syntax' => orders_query('SELECT * FROM orders WHERE number = ' . word() . ' AND AND id = ' . id()),
    'sql-refused' => orders_connect('127.0.0.1', 1, 'shop', 'x'),
    'sql-denied' => orders_connect('127.0.0.1', (int) getenv('DB_PORT'), 'shop_' . word(), hex(10)),
    'sql-lock' => orders_locked(id(1, 40)),
    'monolog-declined' => orders_log()->error('Payment {id} declined', ['id' => uuid(), 'order' => id(), 'customer' => word() . '@example.org']),
    'monolog-webhook' => orders_log()->critical('Webhook of Acme Pay had a wrong signature', ['remote' => '10.0.' . id(0, 255) . '.4', 'event' => 'evt_' . hex(20)]),
    'monolog-exception' => orders_logged(fn() => (new \Acme\Stock\Model\Reservation())->reserve('SKU-' . strtoupper(hex(5)), id(1, 20))),
    'monolog-exception-zone' => orders_logged(fn() => (new \AcmeShipping\Rates())->zone(strtoupper(word(['de', 'fr', 'it'])))),
};

//// wp-includes/plugin.php
<?php
function apply_filters($hook, $call) { return call_user_func($call); }

//// wp-content/plugins/acme-vouchers/vouchers.php
<?php
class Acme_Vouchers {
    public function shipping($cart) { return $cart['shipping_method']; }
    public function tax($cart) { return $cart['tax_class']; }
    public function item($key) { $cart = []; return $cart[$key]; }
    public function total() { return $total + 1; }
}

//// wp-content/plugins/gift-cards/gift.php
<?php
class Gift_Cards {
    public function tax($cart) { return $cart['tax_class']; }
    public function customer() { return $customer . ''; }
    public function holder($card) { return $card->holder; }
    public function redeem($voucher) { return $voucher->refund(id()); }
    public function lock($voucher) { return $voucher->lock(id()); }
    public function price($card) { return $card->get_price(); }
}

//// wp-content/plugins/quick-checkout/includes/class-checkout.php
<?php
class Quick_Checkout {
    public function price($product) { return $product->get_price(); }
    public function quantity($text) { return $this->times($text); }
    private function times(int $number) { return $number; }
    public function add_up($text) { return array_sum($text); }
    public function share($sum, $people) { return intdiv($sum, $people); }
    public function all_orders($number) {
        ini_set('memory_limit', (4 + $number % 3) . 'M');
        $all = [];
        while (true) { $all[] = str_repeat('x', 10000 + $number); }
    }
    public function wait_for_stock() { set_time_limit(1); while (true) { hash('sha256', 'x'); } }
}

//// wp-content/themes/boutique/functions.php
<?php
function boutique_part($name) { require __DIR__ . "/parts/$name.php"; }
function boutique_banner($path) { return include __DIR__ . $path; }
function boutique_client($name) { $class = "Acme\\Client\\$name"; return new $class(); }
function boutique_menu($items) { foreach ($items as $item) { echo $item; } }
function boutique_title($title) { return "<h1>$title</h1>"; }

//// vendor/acme/module-payment/Model/Gateway.php
<?php
namespace Acme\Payment\Model;
class GatewayException extends \RuntimeException {}
class Gateway {
    public function authorise($payment, $order) { throw new GatewayException("Payment $payment of order $order was declined: insufficient funds"); }
    public function capture($payment, $order) { throw new GatewayException("Payment $payment of order $order was captured already"); }
    public function settle($payment) {
        try { $this->open($payment); } catch (\Exception $error) { throw new GatewayException("Settlement of $payment failed", 0, $error); }
    }
    private function open($payment) { throw new \UnexpectedValueException("No open amount for $payment"); }
    public function call($path) { return file_get_contents("http://127.0.0.1:1$path"); }
    public function decode($answer) { return json_decode($answer, flags: JSON_THROW_ON_ERROR); }
}

//// app/code/Acme/Stock/Model/Reservation.php
<?php
namespace Acme\Stock\Model;
class Reservation {
    public function reserve($sku, $number) { throw new \DomainException("Only " . ($number - 1) . " of $sku left, $number wanted"); }
    public function release($sku, $number) { throw new \DomainException("Stock of $sku would become -$number"); }
}

//// custom/plugins/AcmeShipping/src/Rates.php
<?php
namespace AcmeShipping;
class Rates {
    public function zone($country) { throw new \InvalidArgumentException("No shipping zone for country \"$country\""); }
    public function speed($name) { return match ($name) { 'normal' => 1, 'express' => 2 }; }
    public function cached($text) { return unserialize($text); }
}

//// lib/orders.php
<?php
function orders_connect($host, $port, $user, $password) {
    return new \PDO("mysql:host=$host;port=$port;dbname=shop", $user, $password);
}
function orders_query($sql) { return orders_connect('127.0.0.1', (int) getenv('DB_PORT'), 'shop', 'shop')->query($sql); }
function orders_twice($number) {
    orders_query("INSERT IGNORE INTO orders (number, status) VALUES ('$number', 'new')");
    orders_query("INSERT INTO orders (number, status) VALUES ('$number', 'new')");
}
function orders_locked($number) {
    orders_query("INSERT IGNORE INTO orders (id, number, status) VALUES ($number, 'L-$number', 'new')");
    $one = orders_connect('127.0.0.1', (int) getenv('DB_PORT'), 'shop', 'shop');
    $one->query('START TRANSACTION');
    $one->query("UPDATE orders SET status = 'paid' WHERE id = $number");
    $other = orders_connect('127.0.0.1', (int) getenv('DB_PORT'), 'shop', 'shop');
    $other->query('SET innodb_lock_wait_timeout = 0');
    $other->query("UPDATE orders SET status = 'sent' WHERE id = $number");
}
function orders_log() {
    require_once 'Psr/Log/autoload.php';
    require_once 'Monolog/autoload.php';
    $log = new \Monolog\Logger('checkout');
    $log->pushHandler(new \Monolog\Handler\StreamHandler(getenv('MONOLOG')));
    $log->pushProcessor(new \Monolog\Processor\PsrLogMessageProcessor());
    return $log;
}
function orders_logged($call) {
    $log = orders_log();
    $log->getHandlers()[0]->getFormatter()->includeStacktraces(true);
    try { $call(); } catch (\Exception $error) { $log->error('Order {id} could not be placed', ['id' => id(), 'exception' => $error]); }
}
