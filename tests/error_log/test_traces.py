"""Stack traces of six languages, as their runtimes write them, also wrapped, cut and inside other lines."""

import pytest
from corpus_events import corpus
from cpu import least

from probes.error_log.event import LONGEST, Frame
from probes.error_log.traces import MOST_FRAMES, Trace, trace

PYTHON = """2026-11-27 02:14:02 ERROR django.request Internal Server Error: /pay/12
Traceback (most recent call last):
  File "/srv/shop/shop/gateway.py", line 10, in charge
    urlopen(url)
  File "/usr/lib/python3.11/urllib/request.py", line 1351, in do_open
    raise URLError(err)
urllib.error.URLError: <urlopen error [Errno 111] Connection refused>

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/srv/venv/lib/python3.11/site-packages/django/core/handlers/base.py", line 197, in _get_response
    response = wrapped_callback(request)
               ^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/srv/shop/shop/gateway.py", line 12, in charge
    raise PaymentError(f"charge {token}") from error
shop.gateway.PaymentError: charge 8f3a failed"""
PYTHON_READ = Trace("shop.gateway.PaymentError", "charge 8f3a failed", (
    Frame("/srv/shop/shop/gateway.py", "charge"),
    Frame("/srv/venv/lib/python3.11/site-packages/django/core/handlers/base.py", "_get_response")))

PHP = r"""[27-Nov-2026 02:14:02 UTC] PHP Fatal error:  Uncaught Acme\Pay\PayError: Payment 8f3a was refused in /srv/shop/vendor/acme/pay/Gateway.php:5
Stack trace:
#0 /srv/shop/wp-content/plugins/checkout/pay.php(39): Acme\Pay\Gateway->authorise('8f3a-...', 4255481)
#1 [internal function]: Checkout::pay()
#2 /srv/shop/index.php(2): call_user_func()
#3 {main}
  thrown in /srv/shop/vendor/acme/pay/Gateway.php on line 5"""
PHP_READ = Trace("Acme\\Pay\\PayError", "Payment 8f3a was refused", (
    Frame("/srv/shop/vendor/acme/pay/Gateway.php", "Acme\\Pay\\Gateway.authorise"),
    Frame("/srv/shop/wp-content/plugins/checkout/pay.php", "Checkout.pay"),
    Frame("/srv/shop/index.php")))

JAVA = """2026-11-27 02:14:02.123 SEVERE com.acme.Checkout - Request 7 failed
com.acme.PaymentException: Payment 12 failed
\tat com.acme.Gateway.pay(Gateway.java:24)
\tat com.acme.Checkout.lambda$main$0(Checkout.java:7)
Caused by: java.lang.NumberFormatException: For input string: "12x"
\tat java.base/java.lang.Integer.parseInt(Integer.java:652)
\tat com.acme.Gateway$Reader.read(Gateway.java:20)
\t... 2 more"""
NODE = """/srv/shop/src/checkout.js:21
  total() { return this.items.price; }
                              ^

TypeError: Cannot read properties of undefined (reading 'price')
    at Basket.total (/srv/shop/src/checkout.js:21:31)
    at async Object.pay [as run] (file:///srv/shop/src/pay.mjs:4:2)
    at new Order (/srv/shop/src/order.js:1:1)
    at /srv/shop/src/index.js:7:9
    at Module._compile (node:internal/modules/cjs/loader:1521:14) {
  code: 'X'
}

Node.js v20.20.2"""
NET = """fail: Shop.Checkout[0] Order 12 failed
System.InvalidOperationException: Payment 12 failed
 ---> System.TimeoutException: No answer within 30 s
   at Shop.Pay.Gateway.Send(String id) in /src/Shop/Pay/Gateway.cs:line 12
   at Shop.Pay.Gateway.<SendAsync>d__4.MoveNext()
   --- End of inner exception stack trace ---
   at Shop.Checkout.Pay(Order order)"""
RUBY = """app/shop.rb:8:in `redeem': Voucher V12 was redeemed (ArgumentError)
\tfrom /usr/lib/ruby/gems/3.1.0/gems/rack-3.0.8/lib/rack/builder.rb:12:in `call'
\tfrom app/shop.rb:17:in `<main>'
"""


@pytest.mark.parametrize(("text", "expected"), [(PYTHON, PYTHON_READ), (PHP, PHP_READ)], ids=["Python", "PHP"])
def test_the_exception_its_message_and_the_frames_innermost_first(text: str, expected: Trace) -> None:
    assert trace(text) == expected


def test_java_tells_the_root_cause_and_goes_on_with_what_it_caused() -> None:
    assert trace(JAVA) == Trace("java.lang.NumberFormatException", 'For input string: "12x"', (
        Frame("java/lang/Integer.java", "java.lang.Integer.parseInt"), Frame("com/acme/Gateway.java", "com.acme.Gateway.Reader.read"),
        Frame("com/acme/Gateway.java", "com.acme.Gateway.pay"), Frame("com/acme/Checkout.java", "com.acme.Checkout.lambda$main$0")))


def test_node() -> None:
    assert trace(NODE) == Trace("TypeError", "Cannot read properties of undefined (reading 'price')", (
        Frame("/srv/shop/src/checkout.js", "Basket.total"), Frame("/srv/shop/src/pay.mjs", "pay"), Frame("/srv/shop/src/order.js", "Order"),
        Frame("/srv/shop/src/index.js"), Frame("node:internal/modules/cjs/loader", "_compile")))


def test_dot_net_tells_the_innermost_exception() -> None:
    assert trace(NET) == Trace("System.TimeoutException", "No answer within 30 s", (
        Frame("/src/Shop/Pay/Gateway.cs", "Shop.Pay.Gateway.Send"), Frame("Shop/Pay/Gateway.cs", "Shop.Pay.Gateway.SendAsync"),
        Frame("Shop/Checkout.cs", "Shop.Checkout.Pay")))


def test_ruby() -> None:
    assert trace(RUBY) == Trace("ArgumentError", "Voucher V12 was redeemed", (
        Frame("app/shop.rb", "redeem"), Frame("/usr/lib/ruby/gems/3.1.0/gems/rack-3.0.8/lib/rack/builder.rb", "call"), Frame("app/shop.rb")))


def test_ruby_as_rails_logs_it() -> None:
    found = trace("ArgumentError (Voucher V12 was redeemed):\n\napp/models/voucher.rb:8:in 'Voucher#redeem'\n")
    assert found == Trace("ArgumentError", "Voucher V12 was redeemed", (Frame("app/models/voucher.rb", "Voucher.redeem"),))


@pytest.mark.parametrize(("text", "expected"), [(PYTHON, PYTHON_READ), (PHP, PHP_READ)], ids=["Python", "PHP"])
def test_a_trace_in_one_line_of_json_or_of_a_logger(text: str, expected: Trace) -> None:
    assert trace(text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")) == expected


def test_what_php_sends_through_nginx() -> None:
    message = PHP.partition("] ")[2].replace("PHP Fatal", "PHP message: PHP Fatal")
    line = f'2026/11/27 02:14:02 [error] 7#7: *2 FastCGI sent in stderr: "{message}" while reading response header from upstream, client: 10.0.0.1'
    assert trace(line) == PHP_READ


def test_what_php_says_through_fpm_line_by_line() -> None:
    lines = [f'[27-Nov-2026 02:14:02] WARNING: [pool www] child 77 said into stderr: "{line}"' for line in PHP.partition("] ")[2].split("\n")]
    assert trace("\n".join(lines)) == PHP_READ


def test_php_frames_of_its_own_functions_belong_to_whoever_called_them() -> None:
    text = ("PHP Fatal error:  Uncaught JsonException: Syntax error in /srv/a/Gateway.php:12\nStack trace:\n"
            "#0 /srv/a/Gateway.php(12): json_decode()\n#1 /srv/run.php(43): Gateway->decode()\n#2 {main}")
    found = trace(text)
    assert found is not None
    assert found.frames == (Frame("/srv/a/Gateway.php", "Gateway.decode"), Frame("/srv/run.php"))


def test_the_message_of_a_php_error_may_name_files_too() -> None:
    found = trace("PHP Fatal error:  Uncaught TypeError: f(): Argument #1 ($n) must be of type int, string given, called in /a/b.php on line 4 "
                  "and defined in /a/c.php:5\nStack trace:\n#0 /a/b.php(4): f()\n#1 {main}")
    assert found == Trace("TypeError", "f(): Argument #1 ($n) must be of type int, string given, called in /a/b.php on line 4 and defined",
                          (Frame("/a/c.php", "f"), Frame("/a/b.php")))


def test_a_php_warning_tells_its_file() -> None:
    found = trace('PHP Warning:  Undefined array key "x" in /srv/shop/a.php on line 3')
    assert found == Trace("", 'Undefined array key "x"', (Frame("/srv/shop/a.php"),))


def test_monolog_tells_an_exception_with_its_class_and_place() -> None:
    text = ('[2026-11-27T02:14:02+00:00] checkout.ERROR: Order failed '
            '{"exception":"[object] (DomainException(code: 0): Only 1 left at /srv/app/Stock.php:4)\n'
            '[stacktrace]\n#0 /srv/run.php(44): Stock->reserve()\n#1 {main}\n"} []')
    assert trace(text) == Trace("DomainException", "Only 1 left", (Frame("/srv/app/Stock.php", "Stock.reserve"), Frame("/srv/run.php")))


def test_groups_of_python_exceptions() -> None:
    text = """  + Exception Group Traceback (most recent call last):
  |   File "/srv/a.py", line 3, in main
  |     await group()
  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "/srv/b.py", line 9, in work
    |     {}["key"]
    | KeyError: 'key'
    +------------------------------------"""
    assert trace(text) == Trace("KeyError", "'key'", (Frame("/srv/b.py", "work"),))


@pytest.mark.parametrize("text", [PYTHON, PHP, JAVA, NODE, NET, RUBY], ids=["Python", "PHP", "Java", "Node", ".NET", "Ruby"])
def test_cut_anywhere_it_tells_what_is_left_and_never_fails(text: str) -> None:
    whole = trace(text)
    assert whole is not None
    for length in range(len(text)):
        found = trace(text[:length])
        assert found is None or len(found.frames) <= len(whole.frames) + 2, length
    assert trace(text[:int(len(text) * 0.85)]) is not None


@pytest.mark.parametrize("text", [
    "", "\n", "all is well", "connect() failed (111: Connection refused) while connecting to upstream, client: 10.0.0.1", "Ran out in 12 s: line 4",
    "#0 is the first", "Error at line 4"])
def test_what_is_no_trace(text: str) -> None:
    assert trace(text) is None


def test_a_recursion_keeps_the_frames_nearest_to_the_fault() -> None:
    frames = '  File "/a.py", line 1, in f\n' * 200 + '  File "/b.py", line 1, in g\n'
    text = f"Traceback (most recent call last):\n{frames}RecursionError: too deep"
    found = trace(text)
    assert found is not None
    assert found.frames[0] == Frame("/b.py", "g")
    assert len(found.frames) == MOST_FRAMES


@pytest.mark.parametrize("unit", [
    "a", "a.A", "/a", "\n    at a (", " [as ", "\n    at x.y(z.java:1)", '\n  File "x", line 1, in f', "\n#0 /a(1): b", " in /a:",
    "\nCaused by: a.B: c", "\n   at A.B(x) in f:line 1", "\na:1:in `b'", "Uncaught A: b", "[object] (A(code: 0): x", "\\n", "  | "])
@pytest.mark.parametrize("start", [
    "", "Traceback (most recent call last):\n", "PHP Fatal error:  Uncaught A: b in /a:1\n#0 ", "x.y.Z: b\n\tat ", "E: x\n    at /"])
def test_hostile_text_takes_no_longer_than_its_length(start: str, unit: str) -> None:
    text = (start + unit * LONGEST)[:LONGEST]
    assert least(lambda: trace(text)) < 0.1                      # 5 ms on a quiet machine


def test_each_trace_of_the_corpus_is_read() -> None:
    signs = {"php": "Stack trace:", "monolog": "[stacktrace]", "python": "Traceback (most", "java": "\tat ", "node": "\n    at ", "ruby": "in `"}
    texts = [event for event in corpus() if signs.get(event.format, "\0") in event.text]
    missing = [event.label for event in texts if not ((found := trace(event.text)) and found.exception and found.frames)]
    assert len(texts) > 2000
    assert missing == []
