"""Makes the labelled corpus of tests/data/log_signatures: known faults, triggered many times each in real programs.

    python bench/logs/corpus.py --django PYTHON [--only NAME,NAME] [--out FILE]

Needs Debian's nginx, php-fpm, php-cli, php-mysql, php-monolog, mariadb-server, postgresql, nodejs, ruby, a JDK, root (the servers run as
other users), and an interpreter with django, gunicorn and structlog (PYTHON). The servers listen on loopback, in a folder of their own that is
removed in the end, and whose name is cut out of what they log (that of PYTHON becomes a usual one). Everything that differs from one time
to the next (identifiers, names, sums, paths, releases, times, process ids) differs in the log too.
"""

import argparse
import gzip
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import databases
import languages
import servers
from site_of_faults import Site

OUT = Path(__file__).resolve().parents[2] / "tests" / "data" / "log_signatures" / "corpus.jsonl.gz"

MAKERS: dict[str, Callable[[Site], None]] = {
    "php": languages.php, "node": languages.node, "java": languages.java, "ruby": languages.ruby, "django": languages.django,
    "structlog": languages.structured, "gunicorn": servers.gunicorn, "nginx": servers.nginx, "fpm": servers.fpm,
    "mariadb": databases.mariadb, "postgresql": databases.postgresql}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--django", required=True, type=Path)
    parser.add_argument("--only", default=",".join(MAKERS))
    parser.add_argument("--out", default=OUT, type=Path)
    arguments = parser.parse_args()
    os.umask(0o022)
    folder = Path(tempfile.mkdtemp(prefix="corpus-"))
    folder.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        site = Site(folder, arguments.django, stack)
        for name in arguments.only.split(","):
            MAKERS[name](site)
            print(name, len(site.events), flush=True)
    counts = Counter(label for _, label, _ in site.events)
    for label, count in counts.items():
        print(f"{count:5} {label}")
    print(f"{len(site.events)} events of {len(counts)} faults; dropped: {dict(site.dropped)}")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps({"format": kind, "label": label, "text": text}, ensure_ascii=False) + "\n" for kind, label, text in site.events)
    arguments.out.write_bytes(gzip.compress(lines.encode(), 9, mtime=0))
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
