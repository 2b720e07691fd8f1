"""Makes logs with stack traces of PHP, Python, Java and Node: plain, with lines of other writers in between, cut off, and wrapped by PHP-FPM."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

NGINX_LONGEST, FPM_LONGEST = 2048, 1024       # bytes, where nginx cuts a line and PHP-FPM wraps one
WORDS = ("cart", "order", "payment", "stock", "voucher", "price", "customer", "search", "mail", "tax")
OTHERS = {
    "php": "[27-Nov-2026 18:00:{second:02}  UTC] order {number} saved",
    "python": "2026-11-27 18:00:{second:02},123 INFO shop.access request {number} done",
    "java": "2026-11-27 18:00:{second:02}.123 INFO  [http-{number}] com.acme.shop.Access - request done",
    "node": "request {number} done in {second} ms",
    "nginx_error": "2026/11/27 18:00:{second:02} [notice] 900#900: *{number} a client request body is buffered",
}


@dataclass(frozen=True)
class Made:
    """One log. `begins` is where in it, in bytes, each trace begins."""

    format: str
    kind: str
    text: str
    begins: tuple[int, ...]


def php(r: random.Random, number: str) -> list[str]:
    name, deep = r.choice(WORDS), r.randrange(1, 12)
    file = f"/srv/shop/src/{name.title()}.php"
    return [
        f"[27-Nov-2026 18:00:{r.randrange(60):02} UTC] PHP Fatal error:  Uncaught {name.title()}Exception: {name} {number} is gone in {file}:7",
        "Stack trace:",
        *(f"#{level} /srv/shop/src/{r.choice(WORDS).title()}.php({r.randrange(999)}): Shop\\{name.title()}->run()" for level in range(deep)),
        f"#{deep} {{main}}", f"  thrown in {file} on line {r.randrange(999)}"]


def python(r: random.Random, number: str) -> list[str]:
    name = r.choice(WORDS)
    raised = f"{r.choice(('KeyError', 'shop.errors.Gone', 'django.db.utils.OperationalError', 'Conflict'))}: {name} {number}"
    first = f"2026-11-27 18:00:{r.randrange(60):02},803 ERROR django.request Internal Server Error: /{name}/{r.randrange(9999)}"
    lines = [first, *_python(r), raised]
    if r.random() < 0.3:
        between = r.choice(("During handling of the above exception, another exception occurred:",
                            "The above exception was the direct cause of the following exception:"))
        lines += ["", between, "", *_python(r), f"RuntimeError: chained {number}"]
    return lines


def _python(r: random.Random) -> Iterator[str]:
    yield "Traceback (most recent call last):"
    for _ in range(r.randrange(1, 9)):
        yield f'  File "/srv/shop/{r.choice(WORDS)}.py", line {r.randrange(999)}, in {r.choice(WORDS)}'
        yield f"    return {r.choice(WORDS)}(request)"
        if r.random() < 0.5:
            yield "           ^^^^^^^^^^^^^"


def java(r: random.Random, number: str) -> list[str]:
    lines = [f"2026-11-27 18:00:{r.randrange(60):02}.115 ERROR [http-{r.randrange(9)}] com.acme.shop.{r.choice(WORDS)} - request {number} failed",
             f"com.acme.shop.{r.choice(WORDS).title()}Exception: {number} declined", *_java(r)]
    for _ in range(r.randrange(3)):
        lines += [f"Caused by: java.io.IOException: {number} reset", *_java(r), f"\t... {r.randrange(3, 40)} more"]
    return lines


def _java(r: random.Random) -> Iterator[str]:
    for _ in range(r.randrange(1, 15)):
        yield f"\tat com.acme.shop.{r.choice(WORDS).title()}.{r.choice(WORDS)}({r.choice(WORDS).title()}.java:{r.randrange(999)})"


def node(r: random.Random, number: str) -> list[str]:
    name = r.choice(("TypeError", "Error", "ReferenceError", "RangeError"))
    frames = (f"    at {r.choice(WORDS)} (/srv/shop/src/{r.choice(WORDS)}.js:{r.randrange(999)}:{r.randrange(99)})"
              for _ in range(r.randrange(2, 10)))
    return [f"{name}: {r.choice(WORDS)} {number} is not there", *frames]


def nginx(r: random.Random, number: str) -> list[str]:
    """What PHP wrote through nginx, which cuts it off."""
    deeper = [f"#{level} /srv/shop/vendor/acme/module/Model/Deep.php(12): Acme\\Deep->call()" for level in range(r.randrange(40))]
    said = "\n".join(php(r, number) + deeper).split("] ", 1)[1]
    line = f'2026/11/27 18:00:{r.randrange(60):02} [error] 901#901: *{r.randrange(9999)} FastCGI sent in stderr: "PHP message: {said}'
    return (line[:NGINX_LONGEST]).split("\n")


def fpm(r: random.Random, number: str) -> list[str]:
    """What PHP wrote to a worker's standard error, each line decorated, long ones wrapped."""
    stamp = f"[27-Nov-2026 18:00:{r.randrange(60):02}] WARNING: [pool www] child {r.randrange(9, 99)} said into stderr: "
    first, *rest = php(r, number)
    said = [f"NOTICE: PHP message: {first.split('] ', 1)[1]}" + " and so on" * r.choice((0, 0, 150)), *rest]
    room = FPM_LONGEST - len(stamp) - 3                        # as PHP-FPM 8.2 does it: 1,023 characters with both quotation marks
    return [f'{stamp}"{line[place:place + room]}"' for line in said for place in range(0, len(line), room)]


MAKERS: dict[str, tuple[str, Callable[[random.Random, str], list[str]]]] = {
    "php": ("php", php), "python": ("python", python), "java": ("java", java), "node": ("node", node),
    "nginx": ("nginx_error", nginx), "fpm": ("php", fpm)}
KINDS = ("plain", "interleaved", "cut")


def made(language: str, kind: str, count: int, seed: int = 1) -> Made:
    """A log of `count` traces with harmless lines between them, and with `kind` "interleaved" also inside them."""
    r = random.Random(f"{seed}/{language}/{kind}")
    format_, make = MAKERS[language]
    lines: list[str] = []
    begins = []
    for number in range(count):
        trace = make(r, f"N{number:05}")
        begins.append(sum(len(line) + 1 for line in lines))
        if kind == "cut":
            trace = _cut(r, trace)
        for place, line in enumerate(trace):
            if kind == "interleaved" and 0 < place < len(trace) - 1 and _whole_lines(language, line) and r.random() < 0.2:
                lines += [_other(r, format_) for _ in range(r.randrange(1, 4))]
            lines.append(line)
        lines += [_other(r, format_) for _ in range(r.randrange(1, 6) if kind == "interleaved" else r.randrange(3))]
    return Made(format_, kind, "\n".join(lines) + "\n", tuple(begins))


def _whole_lines(language: str, line: str) -> bool:
    """Whether another writer can come in before this line: one who writes a trace at once writes its text of several lines at once, too."""
    return language != "nginx" and bool(line) and not line.startswith(("During", "The above", "Traceback", "    ", "           "))


def _other(r: random.Random, format_: str) -> str:
    return OTHERS[format_].format(second=r.randrange(60), number=r.randrange(9999))


def _cut(r: random.Random, trace: list[str]) -> list[str]:
    """The trace without its end, as when the disk was full or a shipper cut it; its first line stays whole."""
    if trace[0].find("said into stderr") > 0:      # PHP-FPM wraps, it does not cut
        return trace[:r.randrange(1, len(trace) + 1)]
    text = "\n".join(trace)
    first = len(trace[0]) + (1 + len(trace[1]) if len(trace) > 1 else 0)
    return text[:r.randrange(first, len(text) + 1)].split("\n")
