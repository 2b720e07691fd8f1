"""Logs of a busy shop for bench/logs/scanners.py: an access log, nginx's error log, JSON lines, and traces of PHP and Python.

    python bench/logs/make_logs.py DIR [--mib 64] [--errors 0.01] [--seed 1]

`--errors` is the share of requests that fail: 5xx in access.log, [error] and worse in error.log, level ERROR in app.jsonl, a trace in traces.log.
There are 21 faults in each language, each at its place in the code. Three times in four one of ten usual ways leads there, else one that was never
seen. Numbers, addresses and identifiers always differ. Some harmless lines have words of errors in them. After 24 MiB the entries are
used again in another order.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

BEGIN = 1_795_802_400      # Unix s of the first line
USUAL = 0.75               # share of faults that are reached on a usual way
FRESH = 24 << 20           # bytes of entries that are new
BROWSERS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)")
PATHS = ("/", "/cart", "/cart/update/{}", "/checkout", "/checkout/payment", "/product/{}/red-chair", "/category/{}?page={}", "/media/{}.webp",
         "/search?q=lamp+{}", "/account/orders/{}", "/api/stock/{}", "/help/error-codes/{}", "/blog/when-payment-failed-{}")
PARTS = ("cart", "checkout", "payment", "stock", "orders", "prices", "vouchers")
# What goes wrong, and where: always at the same place, reached on another way nearly each time.
PYTHON_FAULTS = tuple((f"{fault.format(part, '{}')}", part, f"{verb}_{part}") for part in PARTS for verb, fault in (
    ("read", "KeyError: '{0}_{1}'"), ("save", "django.db.utils.OperationalError: server closed the connection of {0} unexpectedly, pid {1}"),
    ("send", "shop.errors.GatewayTimeout: {0} did not answer within {1} ms")))
PHP_FAULTS = tuple((fault.format(part, "{}"), part.title()) for part in PARTS for fault in (
    "RuntimeException: {0} of order {1} is empty", "Acme\\Pay\\Declined: {0} of order {1} declined",
    "TypeError: {0}::sum(): Return value must be of type int, null returned"))
HARMLESS = (
    "order stored", "cache filled", "mail handed over", "prices computed", "import done without errors", "retry was not needed, nothing failed")


def number(r: random.Random) -> int:
    return r.randrange(10**6)


def address(r: random.Random) -> str:
    return ".".join(str(r.randrange(1, 255)) for _ in range(4))


def path(r: random.Random) -> str:
    return r.choice(PATHS).format(number(r), r.randrange(40))


def access(r: random.Random, at: float, bad: bool) -> str:
    status = r.choice((500, 502, 503, 504)) if bad else r.choices((200, 301, 304, 404), (90, 3, 5, 2))[0]
    stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(at))
    return (f'{address(r)} - - [{stamp}] "{r.choice(("GET", "GET", "GET", "GET", "POST"))} {path(r)} HTTP/2.0" {status} {r.randrange(150, 80_000)} '
            f'"https://shop.example/category/{r.randrange(900)}" "{r.choice(BROWSERS)}"\n')


def error(r: random.Random, at: float, bad: bool) -> str:
    begin, connection = time.strftime("%Y/%m/%d %H:%M:%S", time.gmtime(at)), number(r)
    request = f'client: {address(r)}, server: shop.example, request: "GET {path(r)} HTTP/2.0", host: "shop.example"'
    if not bad:
        return (f"{begin} [{r.choice(('info', 'notice', 'warn'))}] 77#77: *{connection} an upstream response is buffered to a temporary file "
                f"/var/lib/nginx/fastcgi/{r.randrange(10)}/{connection:010} while reading upstream, {request}\n")
    said = r.choice((
        "connect() to unix:/run/php/shop.sock failed (11: Resource temporarily unavailable) while connecting to upstream",
        "upstream prematurely closed connection while reading response header from upstream",
        f'FastCGI sent in stderr: "PHP message: PHP Fatal error:  Uncaught {r.choice(PHP_FAULTS)[0].format(number(r))} in /srv/shop/Order.php:12" '
        "while reading response header from upstream"))
    return f"{begin} [{r.choice(('error', 'error', 'error', 'crit'))}] 77#77: *{connection} {said}, {request}\n"


def way_to(r: random.Random, fault: str) -> random.Random:
    """What chooses the frames that lead to a fault: mostly one that has chosen them before."""
    return random.Random(f"{fault}/{r.randrange(10)}") if r.random() < USUAL else r


def python_trace(r: random.Random, fault: tuple[str, str, str]) -> str:
    said, part, function = fault
    choose = way_to(r, said)
    way = [(name := choose.choice(PARTS), f"{choose.choice(('get', 'post', 'list'))}_{name}") for _ in range(choose.randrange(2, 9))]
    frames = "".join(f'  File "/srv/shop/shop/{name}.py", line {r.randrange(900)}, in {inner}\n    return self.inner(request)\n'
                     for name, inner in (*way, (part, function)))
    return f"Traceback (most recent call last):\n{frames}{said.format(number(r))}"


def lines_of_json(r: random.Random, at: float, bad: bool) -> str:
    fault = r.choice(PYTHON_FAULTS)
    fields = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{r.randrange(1000):03}Z",
        "level": "ERROR" if bad else r.choice(("INFO", "INFO", "DEBUG", "WARNING")), "logger": f"shop.{fault[1]}",
        "request_id": f"{r.getrandbits(128):032x}", "customer": number(r), "ms": r.randrange(3000)}
    fields |= {"msg": f"request {number(r)} went wrong", "exception": python_trace(r, fault)} if bad else {"msg": r.choice(HARMLESS)}
    return json.dumps(fields) + "\n"


def traces(r: random.Random, at: float, bad: bool) -> str:
    stamp = time.strftime("%d-%b-%Y %H:%M:%S UTC", time.gmtime(at))
    if not bad:
        notice = f"PHP Notice:  Undefined variable $rebate{r.randrange(50)} in /srv/shop/src/Price.php on line {r.randrange(900)}"
        return f"[{stamp}] {r.choice((notice, f'{r.choice(HARMLESS)} id={number(r)}'))}\n"
    if r.random() < 0.5:
        fault = r.choice(PYTHON_FAULTS)
        return f"[{stamp}] ERROR shop.{fault[1]} request {number(r)} went wrong\n{python_trace(r, fault)}\n"
    said, name = r.choice(PHP_FAULTS)
    choose = way_to(r, said)
    way = [name, *(choose.choice(PARTS).title() for _ in range(choose.randrange(2, 9)))]
    frames = "".join(f"#{level} /srv/shop/src/{part}.php({r.randrange(900)}): Shop\\{part}->handle(Object(Order), {number(r)})\n"
                     for level, part in enumerate(way))
    return (f"[{stamp}] PHP Fatal error:  Uncaught {said.format(number(r))} in /srv/shop/src/{name}.php:{r.randrange(900)}\nStack trace:\n{frames}"
            f"#10 {{main}}\n  thrown in /srv/shop/src/{name}.php on line {r.randrange(900)}\n")


LOGS: dict[str, Callable[[random.Random, float, bool], str]] = {
    "access.log": access, "error.log": error, "app.jsonl": lines_of_json, "traces.log": traces}


def entries(entry: Callable[[random.Random, float, bool], str], errors: float, seed: int) -> Iterator[str]:
    """Entries without an end."""
    r = random.Random(seed)
    seen: list[str] = []
    size, at = 0, float(BEGIN)
    while size < FRESH:
        at += r.expovariate(100)
        text = entry(r, at, r.random() < errors)
        seen.append(text)
        size += len(text)
        yield text
    while True:
        r.shuffle(seen)
        yield from seen


def make(folder: Path, mib: float, errors: float, seed: int = 1) -> None:
    """Write all four logs, each of `mib` MiB."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, entry in LOGS.items():
        size = 0
        with (folder / name).open("w") as file:
            for text in entries(entry, errors, seed):
                size += file.write(text)
                if size >= mib * 2**20:
                    break


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mib", type=float, default=64)
    parser.add_argument("--errors", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    make(arguments.folder, arguments.mib, arguments.errors, arguments.seed)


if __name__ == "__main__":
    main()
