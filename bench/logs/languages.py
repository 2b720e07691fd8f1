"""Faults of the programs that shops are written in, as their runtimes log them."""

import os
import re
import subprocess

import databases
from site_of_faults import FAULTS, Site

TIMES = 25


def kinds_of(source: str, pattern: str) -> list[str]:
    return list(dict.fromkeys(re.findall(pattern, (FAULTS / source).read_text(), re.MULTILINE)))


def php(site: Site) -> None:
    site.install("shop.php", "////")
    databases.mariadb_for(site)
    log, monolog = site.folder / "php.log", site.folder / "monolog.log"
    environment = {**os.environ, "DB_PORT": str(site.db_port), "MONOLOG": str(monolog)}
    for kind in kinds_of("shop.php", r"^    '([a-z-]+)' =>"):
        for turn in range(TIMES):
            for file in (log, monolog):
                file.unlink(missing_ok=True)
            settings = [f"error_log={log}", "log_errors=1", "display_errors=0", "html_errors=0"]
            command = ["php", *(word for setting in settings for word in ("-d", setting)), "run.php", kind, str(turn)]
            subprocess.run(command, cwd=site.release(turn), env=environment, check=False, capture_output=True)
            if monolog.exists():
                site.add("monolog", f"php/{kind}", monolog.read_text())
            else:
                text = log.read_text() if log.exists() else ""
                site.add("php", f"php/{kind}", text)


def node(site: Site) -> None:
    site.install("shop.js", "////", "src/checkout.js")
    for kind in kinds_of("shop.js", r"^  '([a-z-]+)': "):
        for turn in range(TIMES):
            done = subprocess.run(["node", "src/checkout.js", kind, str(turn)], cwd=site.release(turn), check=False, capture_output=True, text=True)
            site.add("json" if kind.startswith("json-log") else "node", f"node/{kind}", done.stderr)


def java(site: Site) -> None:
    subprocess.run(["javac", "-d", site.folder / "classes", FAULTS / "Shop.java"], check=True)
    for kind in kinds_of("Shop.java", r'^            case "([a-z-]+)"'):
        seeds = ",".join(map(str, range(TIMES)))
        done = subprocess.run(["java", "-cp", site.folder / "classes", "Shop", kind, seeds], check=True, capture_output=True, text=True)
        for event in re.split(r"\n(?=\d{4}-)", done.stderr.strip()):
            site.add("java", f"java/{kind}", event)


def ruby(site: Site) -> None:
    site.install("shop.rb", "####", "app/shop.rb")
    for kind in kinds_of("shop.rb", r"^(?:case kind\n)?when '([a-z-]+)'"):
        for turn in range(TIMES):
            done = subprocess.run(["ruby", site.release(turn) / "app/shop.rb", kind, str(turn)], check=False, capture_output=True, text=True)
            site.add("ruby", f"ruby/{kind}", done.stderr)


def django(site: Site) -> None:
    site.install("shop_django.txt", "####")
    source = (FAULTS / "shop_django.txt").read_text()
    views = source.partition("#### shop/views.py")[2].partition("#### shop/tax.py")[0]
    kinds = ["not-found", "csrf", "host", "method", *re.findall(r"^def (?!view|only_get)(\w+)", views, re.MULTILINE)]
    for turn in range(3):
        seeds = ",".join(map(str, range(turn * 9, turn * 9 + 9)))
        _sections(site, "python", "django", [str(site.python), str(site.release(turn) / "run.py"), ",".join(kinds), seeds])


def structured(site: Site) -> None:
    kinds = kinds_of("structured.txt", r'^            case "([a-z-]+)"')
    site.install("structured.txt", "####", "worker/run.py")
    for turn in range(3):
        seeds = ",".join(map(str, range(turn * 9, turn * 9 + 9)))
        _sections(site, "json", "structlog", [str(site.python), str(site.release(turn) / "worker/run.py"), ",".join(kinds), seeds])


def _sections(site: Site, kind: str, program: str, command: list[str]) -> None:
    """Events of a log in which "=== FAULT" stands behind what each fault has logged."""
    log = site.folder / f"{program}.log"
    log.unlink(missing_ok=True)
    subprocess.run([*command, str(log)], check=True)
    lines: list[str] = []
    for line in log.read_text().splitlines():
        if line.startswith("=== "):
            site.add(kind, f"{program}/{line[4:]}", "\n".join(lines))
            lines = []
        else:
            lines.append(line)
