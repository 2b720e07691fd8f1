"""Lines as the programs of each format write them, with what should be read out of them."""
# ruff: noqa: E501   (lines of logs are as long as they are)

from dataclasses import dataclass

from probes.error_log.event import Level


@dataclass(frozen=True)
class Sample:
    """One piece of a log. `events` are (level, a part of the signature) in their order."""

    format: str
    name: str
    text: str
    events: tuple[tuple[Level, str], ...] = ()


SAMPLES: tuple[Sample, ...] = (
    Sample("nginx_error", "levels", """\
2026/11/27 18:00:00 [notice] 900#900: signal process started
2026/11/27 18:00:01 [info] 901#901: *7 client 192.0.2.7 closed keepalive connection
2026/11/27 18:00:01 [warn] 901#901: *8 an upstream response is buffered to a temporary file /var/lib/nginx/proxy/1/00/0000000001 while reading upstream, client: 192.0.2.7, server: shop.example, request: "GET / HTTP/1.1", upstream: "http://127.0.0.1:9000/", host: "shop.example"
2026/11/27 18:00:02 [error] 901#901: *9 connect() failed (111: Connection refused) while connecting to upstream, client: 192.0.2.7, server: shop.example, request: "POST /checkout HTTP/2.0", upstream: "http://127.0.0.1:9000/checkout", host: "shop.example"
2026/11/27 18:00:03 [crit] 901#901: *10 SSL_do_handshake() failed (SSL: error:0A00006C:SSL routines::bad key share) while SSL handshaking, client: 192.0.2.9, server: 0.0.0.0:443
2026/11/27 18:00:04 [emerg] 900#900: bind() to 0.0.0.0:443 failed (98: Address already in use)
""", (("warning", "buffered to a temporary file"), ("error", "connect() failed"), ("critical", "SSL_do_handshake() failed"), ("critical", "bind() to"))),
    Sample("nginx_error", "PHP writes through it with its own level", """\
2026/11/27 18:00:02 [error] 901#901: *9 FastCGI sent in stderr: "PHP message: PHP Notice:  Undefined variable $a in /srv/shop/a.php on line 3" while reading response header from upstream, client: 192.0.2.7, server: shop.example
2026/11/27 18:00:02 [error] 901#901: *9 FastCGI sent in stderr: "PHP message: PHP Warning:  Undefined array key "coupon" in /srv/shop/cart.php on line 3" while reading response header from upstream, client: 192.0.2.7
2026/11/27 18:00:02 [error] 901#901: *9 FastCGI sent in stderr: "PHP message: PHP Deprecated:  strlen(): Passing null in /srv/shop/a.php on line 9; PHP message: PHP Fatal error:  Uncaught TypeError: Cart::total(): Return value must be of type float, null returned in /srv/shop/src/Cart.php:17
Stack trace:
#0 /srv/shop/src/Checkout.php(31): Cart->total()
#1 {main}
  thrown in /srv/shop/src/Cart.php on line 17" while reading response header from upstream, client: 192.0.2.7, server: shop.example, request: "GET /cart HTTP/1.1"
""", (("warning", "Undefined array key"), ("critical", "TypeError"))),
    Sample("apache_error", "2.4", """\
[Fri Nov 27 18:00:00.123456 2026] [mpm_event:notice] [pid 77:tid 140] AH00489: Apache/2.4.66 (Debian) configured -- resuming normal operations
[Fri Nov 27 18:00:01.123456 2026] [core:warn] [pid 77:tid 140] AH00098: pid file /run/apache2/apache2.pid overwritten
[Fri Nov 27 18:00:02.123456 2026] [proxy_fcgi:error] [pid 78:tid 141] [client 192.0.2.7:53210] AH01071: Got error 'PHP message: PHP Fatal error:  Uncaught Error: Class "Acme\\\\Pay" not found in /srv/shop/pay.php:3', referer: https://shop.example/cart
[Fri Nov 27 18:00:03.123456 2026] [proxy:error] [pid 78:tid 141] (111)Connection refused: AH00957: http: attempt to connect to 127.0.0.1:9000 (127.0.0.1:9000) failed
[Fri Nov 27 18:00:04.123456 2026] [core:alert] [pid 78:tid 141] [client 192.0.2.7:53210] /srv/shop/.htaccess: Invalid command 'RewriteEngin', referer: https://shop.example/
""", (("warning", "pid file"), ("critical", "Error: Class"), ("error", "Connection refused"), ("critical", "Invalid command"))),
    Sample("apache_error", "2.2", """\
[Fri Nov 27 18:00:00 2026] [notice] Apache/2.2.34 configured -- resuming normal operations
[Fri Nov 27 18:00:02 2026] [error] [client 192.0.2.7] File does not exist: /srv/shop/favicon.ico
[Fri Nov 27 18:00:02 2026] [error] [client 192.0.2.7] PHP Warning:  mysqli_connect(): (HY000/2002): Connection refused in /srv/shop/db.php on line 3, referer: https://shop.example/
""", (("error", "File does not exist"), ("warning", "mysqli_connect()"))),
    Sample("combined", "failed requests", """\
192.0.2.7 - - [27/Nov/2026:18:00:00 +0000] "GET /api/v1/error-report/5 HTTP/1.1" 200 512 "-" "curl/7.88.1"
192.0.2.7 - anna [27/Nov/2026:18:00:01 +0000] "POST /checkout/payment HTTP/2.0" 502 157 "https://shop.example/checkout" "Mozilla/5.0 (X11; Linux x86_64)"
2001:db8::7 - - [27/Nov/2026:18:00:02 +0000] "GET /product/1234/blue-shoes HTTP/1.1" 404 157 "-" "Mozilla/5.0"
2001:db8::7 - - [27/Nov/2026:18:00:03 +0000] "GET /product/1234/blue-shoes HTTP/1.1" 500 0 "-" "Mozilla/5.0"
""", (("error", "POST of checkout answered: Bad Gateway"), ("error", "GET of catalogue answered: Internal Server Error"))),
    Sample("combined", "common", """\
192.0.2.7 - - [27/Nov/2026:18:00:00 +0000] "GET / HTTP/1.1" 200 512
192.0.2.7 - - [27/Nov/2026:18:00:00 +0000] "GET /cart HTTP/1.1" 503 512
192.0.2.7 - - [27/Nov/2026:18:00:00 +0000] "\\x16\\x03\\x01" 400 157
""", (("error", "GET of cart answered: Service Unavailable"),)),
    Sample("php", "error log", """\
[27-Nov-2026 18:00:00 UTC] PHP Notice:  Undefined index: error in /srv/shop/a.php on line 4
[27-Nov-2026 18:00:00 UTC] PHP Deprecated:  Creation of dynamic property Exception::$b is deprecated in /srv/shop/a.php on line 4
[27-Nov-2026 18:00:00 Europe/Berlin] PHP Warning:  Undefined array key "sku" in /srv/shop/a.php on line 4
[27-Nov-2026 18:00:01 UTC] PHP Parse error:  syntax error, unexpected token ";" in /srv/shop/b.php on line 12
[27-Nov-2026 18:00:02 UTC] PHP Fatal error:  Uncaught PDOException: SQLSTATE[HY000] [2002] Connection refused in /srv/shop/src/Db.php:8
Stack trace:
#0 /srv/shop/src/Db.php(8): PDO->__construct('mysql:host=db', 'shop')
#1 /srv/shop/index.php(3): Db->connect()
#2 {main}
  thrown in /srv/shop/src/Db.php on line 8
[27-Nov-2026 18:00:03 UTC] PHP Fatal error:  Allowed memory size of 134217728 bytes exhausted (tried to allocate 20480 bytes) in /srv/shop/export.php on line 9
[27-Nov-2026 18:00:04 UTC] order 4711 saved
""", (("warning", "Undefined array key"), ("critical", "syntax error"), ("critical", "PDOException"), ("critical", "Allowed memory size"))),
    Sample("php", "PHP-FPM's log", """\
[27-Nov-2026 18:00:00] NOTICE: fpm is running, pid 1
[27-Nov-2026 18:00:00.123456] NOTICE: ready to handle connections
[27-Nov-2026 18:00:01] WARNING: [pool www] server reached pm.max_children setting (5), consider raising it
[27-Nov-2026 18:00:02] WARNING: [pool www] child 12 said into stderr: "NOTICE: PHP message: PHP Fatal error:  Uncaught Error: Call to a member function price() on null in /srv/shop/src/Cart.php:8"
[27-Nov-2026 18:00:02] WARNING: [pool www] child 12 said into stderr: "Stack trace:"
[27-Nov-2026 18:00:02] WARNING: [pool www] child 12 said into stderr: "#0 /srv/shop/index.php(26): Cart->price(NULL)"
[27-Nov-2026 18:00:02] WARNING: [pool www] child 12 said into stderr: "#1 {main}"
[27-Nov-2026 18:00:02] WARNING: [pool www] child 12 said into stderr: "  thrown in /srv/shop/src/Cart.php on line 8"
[27-Nov-2026 18:00:03] WARNING: [pool www] child 13 exited on signal 11 (SIGSEGV) after 3.5 seconds from start
[27-Nov-2026 18:00:04] ERROR: [pool www] cannot get gid for group 'shop'
[27-Nov-2026 18:00:05] ALERT: oops, unknown child (14) exited with code 0
""", (("warning", "max_children"), ("critical", "Error: Call to a member function"), ("warning", "exited on signal"), ("error", "cannot get gid"),
      ("critical", "unknown child"))),
    Sample("monolog", "Magento, Shopware, Symfony", """\
[2026-11-27T18:00:00.041847+00:00] main.INFO: cron finished {"errors":0} []
[2026-11-27T18:00:00.041847+00:00] main.CRITICAL: Exception: Payment declined in /srv/shop/vendor/acme/module-pay/Gateway.php:10
Stack trace:
#0 /srv/shop/vendor/acme/module-pay/Checkout.php(8): Acme\\Pay\\Gateway->capture()
#1 {main} [] []
[2026-11-27T18:00:01.000000+00:00] checkout.ERROR: Payment 5f2c declined {"order":4711,"customer":"anna@example.org"} []
[2026-11-27 18:00:02] request.WARNING: Deprecated parameter "sort" {"exception":null} []
[2026-11-27 18:00:03] app.NOTICE: Matched route "error_page" [] []
""", (("critical", "Exception: Payment declined"), ("error", "Payment * declined"), ("warning", "Deprecated parameter"))),
    Sample("wordpress", "debug.log", """\
[27-Nov-2026 18:00:00 UTC] WordPress database error Table 'shop.wp_acme' doesn't exist for query SELECT * FROM wp_acme made by require('wp-blog-header.php')
[27-Nov-2026 18:00:01 UTC] PHP Notice:  Function _load_textdomain_just_in_time was called incorrectly in /srv/shop/wp-includes/functions.php on line 6114
[27-Nov-2026 18:00:02 UTC] PHP Fatal error:  Uncaught Error: Call to undefined function acme_rate() in /srv/shop/wp-content/plugins/acme-shipping/rates.php:12
Stack trace:
#0 /srv/shop/wp-includes/class-wp-hook.php(324): acme_hook('')
#1 {main}
  thrown in /srv/shop/wp-content/plugins/acme-shipping/rates.php on line 12
""", (("error", "database error"), ("critical", "[acme-shipping]"))),
    Sample("wordpress", "WooCommerce", """\
2026-11-27T18:00:00+00:00 INFO Webhook delivered, no error
2026-11-27T18:00:01+00:00 CRITICAL Uncaught TypeError: Unsupported operand types: string * int in /srv/shop/wp-content/plugins/acme-tax/tax.php:3
2026-11-27T18:00:02+00:00 ERROR Stripe: card declined for order 4711 CONTEXT: {"order":4711}
2026-11-27T18:00:03+00:00 WARNING Stock of product 12 is low
""", (("critical", "TypeError"), ("error", "card declined"), ("warning", "Stock of product"))),
    Sample("opencart", "error.log", """\
2026-11-27 18:00:00 - PHP Warning:  Undefined array key "totals" in /srv/shop/catalog/controller/checkout/cart.php on line 31
2026-11-27 18:00:01 - PHP Notice:  Undefined index: error in /srv/shop/catalog/controller/common/cart.php on line 3
2026-11-27 18:00:01 - PHP Fatal error:  Uncaught Exception: Error: Could not load library Pay! in /srv/shop/system/engine/loader.php:42
Stack trace:
#0 /srv/shop/catalog/controller/checkout/confirm.php(9): Loader->library('Pay')
#1 {main}
  thrown in /srv/shop/system/engine/loader.php on line 42
""", (("warning", "Undefined array key"), ("critical", "Could not load library"))),
    Sample("python", "logging and Django", """\
2026-11-27 18:00:00,803 INFO shop.cart no errors found in import batch
2026-11-27 18:00:00,803 WARNING django.request Not Found: /wp-login.php
2026-11-27 18:00:01,008 ERROR django.request Internal Server Error: /checkout/4711
Traceback (most recent call last):
  File "/srv/venv/lib/python3.11/site-packages/django/core/handlers/exception.py", line 55, in inner
    response = get_response(request)
               ^^^^^^^^^^^^^^^^^^^^^
  File "/srv/shop/shop/views.py", line 31, in view
    raise shop.PaymentDeclined(order)
shop.errors.PaymentDeclined: order 4711

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/srv/shop/shop/views.py", line 75, in fallback
    raise KeyError("voucher")
KeyError: 'voucher'
CRITICAL:shop.payment:gateway gone
[27/Nov/2026 18:00:00] "GET /checkout/ HTTP/1.1" 500 145
[27/Nov/2026 18:00:00] "GET /checkout/ HTTP/1.1" 200 145
ERROR 2026-11-27 18:00:00,803 views 4242 140230 could not reserve stock
2026-11-27 18:00:05,000 - shop.stock - ERROR - stock service answered 503
""", (("warning", "Not Found"), ("error", "KeyError: 'voucher'"), ("critical", "gateway gone"), ("error", "GET of checkout"), ("error", "could not reserve"),
      ("error", "stock service"))),
    Sample("python", "tracebacks alone", """\
Traceback (most recent call last):
  File "/srv/shop/worker.py", line 12, in <module>
    main()
  File "/srv/shop/worker.py", line 8, in main
    raise Gone("queue")
worker.Gone: queue
Traceback (most recent call last):
  File "/srv/shop/worker.py", line 12, in <module>
    main()
KeyboardInterrupt
""", (("error", "Gone: queue"), ("error", "KeyboardInterrupt"))),
    Sample("java", "logback and log4j", """\
2026-11-27 18:00:00.115 INFO  [http-1] com.acme.shop.Checkout - started
2026-11-27 18:00:00.115 WARN  [http-1] com.acme.shop.Checkout - slow gateway
2026-11-27 18:00:00.115 ERROR [http-1] com.acme.shop.Checkout - Request a32dc9 of customer 54491 failed
com.acme.shop.PaymentException: declined
\tat com.acme.shop.Gateway.capture(Gateway.java:13)
\tat com.acme.shop.Checkout.pay(Checkout.java:29)
\tat org.springframework.web.servlet.FrameworkServlet.service(FrameworkServlet.java:897)
Caused by: java.net.SocketTimeoutException: Read timed out
\tat java.base/java.net.SocketInputStream.read(SocketInputStream.java:186)
\tat com.acme.shop.Http.post(Http.java:7)
\t... 12 more
18:00:01.200 [main] ERROR com.acme.shop.Import - row 12 is broken
Exception in thread "main" java.lang.NullPointerException: Cannot invoke "Item.price()" because "item" is null
\tat com.acme.shop.Cart.total(Cart.java:13)
""", (("warning", "slow gateway"), ("error", "SocketTimeoutException: Read timed out"), ("error", "row * is broken"), ("critical", "NullPointerException"))),
    Sample("node", "stack traces", """\
listening on 3000
TypeError: Cannot read properties of undefined (reading 'price')
    at priceOf (/srv/shop/src/checkout.js:14:38)
    at process.processTicksAndRejections (node:internal/process/task_queues:95:5)
request done
Error: Order 4711 failed
    at /srv/shop/src/orders.js:46:62
  [cause]: RangeError: Invalid sum
      at sum (/srv/shop/src/orders.js:12:9)
/srv/shop/src/server.js:19
async function reserve(order) { throw new Error(`error of ${order}`); }
                                ^

Error: error of 17
    at reserve (/srv/shop/src/server.js:19:39)

Node.js v20.20.2
""", (("error", "TypeError: Cannot read"), ("error", "Error: Order * failed"), ("critical", "Error: error of *"))),
    Sample("syslog", "RFC 3164 in a file", """\
Nov 27 18:00:00 web1 systemd[1]: Started shop.service - Shop.
Nov 27 18:00:01 web1 kernel: Out of memory: Killed process 4242 (php-fpm), a fatal thing
Nov  7 18:00:02 web1 shop[4242]: ERROR could not reserve stock for order 4711
Nov 27 18:00:03 web1 shop[4242]: warning: gateway slow
""", (("critical", "Out of memory"), ("error", "could not reserve stock"), ("warning", "gateway slow"))),
    Sample("syslog", "RFC 3164 and 5424 with priority", """\
<14>Nov 27 18:00:00 web1 shop: all is well
<11>Nov 27 18:00:01 web1 shop: payment gateway unreachable
<26>Nov 27 18:00:01 web1 shop: disk full
<165>1 2026-11-27T18:00:02.003Z web1 shop 4242 ID47 [exampleSDID@32473 iut="3"] all is well
<164>1 2026-11-27T18:00:02.003Z web1 shop 4242 ID47 [exampleSDID@32473 iut="3"] stock is low
<163>1 2026-11-27T18:00:02.003Z web1 shop 4242 - - order lost
""", (("error", "payment gateway unreachable"), ("critical", "disk full"), ("warning", "stock is low"), ("error", "order lost"))),
    Sample("mysql", "MariaDB", """\
2026-11-27 18:00:00 0 [Note] InnoDB: Buffer pool(s) load completed, 0 errors
2026-11-27 18:00:01 337 [Warning] Access denied for user 'shop'@'127.0.0.1' (using password: YES)
2026-11-27 18:00:02 338 [ERROR] mysqld: Table './shop/orders' is marked as crashed and should be repaired
""", (("warning", "Access denied"), ("error", "marked as crashed"))),
    Sample("mysql", "MySQL 8", """\
2026-11-27T18:00:00.123456Z 0 [System] [MY-010931] [Server] /usr/sbin/mysqld: ready for connections.
2026-11-27T18:00:01.123456Z 8 [ERROR] [MY-012592] [InnoDB] Operating system error number 28 in a file operation.
2026-11-27T18:00:02.123456Z 9 [Warning] [MY-010055] [Server] IP address could not be resolved
""", (("error", "Operating system error number"), ("warning", "could not be resolved"))),
    Sample("postgresql", "with details", """\
2026-11-27 18:00:00.442 UTC [28220] LOG:  checkpoint complete: wrote 3 buffers, 0 errors
2026-11-27 18:00:01.442 UTC [28220] ERROR:  duplicate key value violates unique constraint "orders_pkey"
2026-11-27 18:00:01.442 UTC [28220] DETAIL:  Key (id)=(4711) already exists.
2026-11-27 18:00:01.442 UTC [28220] STATEMENT:  INSERT INTO orders
\tVALUES (4711)
2026-11-27 18:00:02.442 UTC [28221] FATAL:  sorry, too many clients already
2026-11-27 18:00:03.442 UTC [28222] shop@shop WARNING:  there is no transaction in progress
2026-11-27 18:00:04.442 UTC [1] PANIC:  could not write to file "pg_wal/xlogtemp.1": No space left on device
""", (("error", "duplicate key value"), ("critical", "too many clients"), ("warning", "no transaction"), ("critical", "could not write"))),
    Sample("generic", "words", """\
all is well
import done: 0 errors, no warnings
Import FAILED for shop 3
connection to gateway timed out
warning: cache is cold
panic: runtime error: index out of range
errors=0 warnings: 0
""", (("error", "Import FAILED"), ("error", "timed out"), ("warning", "cache is cold"), ("critical", "panic"))),
)
