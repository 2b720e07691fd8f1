"""Faults as database servers log them."""

import os
import random
import re
import subprocess
import time
from pathlib import Path

from site_of_faults import Grown, Site, free_port, wait_for

TIMES = 25
NAMES = ("anna", "bert", "carla", "dirk", "emil", "frida", "gerd", "hanna", "ida", "jonas")

TABLES = """
CREATE DATABASE shop; CREATE USER shop IDENTIFIED BY 'shop'; GRANT ALL ON shop.* TO shop;
CREATE TABLE shop.orders (id INT PRIMARY KEY AUTO_INCREMENT, number VARCHAR(30), status VARCHAR(10), UNIQUE KEY orders_number (number));
CREATE TABLE shop.items (id INT PRIMARY KEY AUTO_INCREMENT, order_id INT NOT NULL, sku VARCHAR(30),
                         FOREIGN KEY items_order (order_id) REFERENCES shop.orders(id));
"""


def mariadb_for(site: Site) -> None:
    """A MariaDB with the shop's tables; started once."""
    if site.db_port:
        return
    data = site.folder / "mariadb"
    subprocess.run(["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=root", "--auth-root-authentication-method=normal"],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    site.db_port = free_port()
    site.start("mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={data}/s", f"--port={site.db_port}", "--bind-address=127.0.0.1",
               f"--log-error={site.folder}/mariadb.log", "--user=root", "--log-warnings=9", "--event-scheduler=on", f"--log-bin={data}/bin",
               "--binlog-format=statement", "--skip-name-resolve", "--max-connections=20", f"--pid-file={data}/pid")
    wait_for(site.db_port)
    sql(site, TABLES)


def sql(site: Site, text: str, *options: str, user: str = "root") -> subprocess.Popen[str]:
    """Statements as one client; errors are of interest only in the server's log."""
    command = ["mariadb", "--no-defaults", f"-u{user}", "-h127.0.0.1", f"-P{site.db_port}", "--force", *options]
    if user == "root":
        command = ["mariadb", "--no-defaults", "-uroot", f"-S{site.folder}/mariadb/s", "--force", *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
    assert process.stdin
    process.stdin.write(text)
    process.stdin.flush()
    if "-n" not in options:
        process.stdin.close()
        process.wait()
    return process


def mariadb(site: Site) -> None:
    mariadb_for(site)
    log = Grown(site.folder / "mariadb.log")

    def note(label: str, mark: str, lines: int = 1) -> None:
        for line in log.read(1.5, lines).splitlines():
            site.add("mariadb", f"mariadb/{label}", line, mark)

    for turn in range(TIMES):
        r = random.Random(turn)
        name, number = r.choice(NAMES), r.randrange(10000)
        sql(site, "SELECT 1;", f"-p{r.getrandbits(32):x}", user=f"{name}{number}")
        note("denied", "Access denied")
        sql(site, f"DELETE FROM shop.items WHERE sku <> '{name}{number}' LIMIT {1 + number % 9};")
        note("unsafe-limit", "Unsafe statement")
        for event, table in (("clean_carts", "carts"), ("send_mails", "mails")):
            sql(site, f"CREATE EVENT shop.{event} ON SCHEDULE AT NOW() DO DELETE FROM shop.{table} WHERE id < {number};")
            note(f"event-{event.replace('_', '-')}", f"[ERROR] Event Scheduler: [root@localhost][shop.{event}] Table", lines=5)
        client = sql(site, "SELECT 1;\n", "-pshop", "-n", "shop", user="shop")
        time.sleep(0.05)
        client.kill()
        client.wait()
        note("aborted", "Aborted connection")
        client = sql(site, "SET wait_timeout = 1;\n", "-pshop", "-n", "shop", user="shop")
        note("timeout", "Aborted connection")
        client.kill()
        client.wait()
        table = f"shop.session_{number}"
        sql(site, f"CREATE TABLE {table} (id INT, INDEX (id)) ENGINE=MyISAM; INSERT INTO {table} VALUES (1); FLUSH TABLES;")
        os.truncate(site.folder / f"mariadb/shop/session_{number}.MYI", 900)
        sql(site, f"SELECT * FROM {table}; SELECT * FROM {table} WHERE id = 1; CHECK TABLE {table};")
        for line in log.read(1.5, 4).splitlines():
            if "Got an error" in line:
                site.add("mariadb", "mariadb/myisam", line)
            else:
                site.add("mariadb", "mariadb/crashed", line, "indexfile")


PG = {
    "relation": "SELECT * FROM orders_archive WHERE id = {number};",
    "column": "SELECT discount_code FROM orders WHERE id = {number};",
    "column-loyalty": "SELECT loyalty_points FROM orders WHERE id = {number};",
    "duplicate": "INSERT INTO orders VALUES ({number}, '{token}', 'new'); INSERT INTO orders VALUES ({number}, '{token}', 'new');",
    "duplicate-number": "INSERT INTO orders VALUES (1{number}, '{token}', 'n'); INSERT INTO orders VALUES (2{number}, '{token}', 'n');",
    "too-long": "INSERT INTO orders VALUES (3{number}, '{token}', '{name}{name}{name}{name}');",
    "not-null": "INSERT INTO orders VALUES (4{number}, NULL, '{name}');",
    "syntax": "SELECT FROM WHERE {name} = {number};",
    "integer": "SELECT * FROM orders WHERE id = '{name}{number}';",
    "division": "SELECT {number} / (id - id) FROM orders;",
    "timeout": "SET statement_timeout = 10; SELECT pg_sleep({number});",
    "function": "SELECT shop_total({number}, '{name}');",
    "function-tax": "SELECT shop_tax({number}, '{name}');",
}


def postgresql(site: Site) -> None:
    programs = max(path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    data, log = site.folder / "postgresql", site.folder / "postgresql.log"
    data.mkdir()
    log.touch()
    for path in (data, log):
        os.chown(path, 65534, -1)
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "shop", "--auth-local=trust", "--auth-host=scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8"],
        check=True, user="nobody", stdout=subprocess.DEVNULL, cwd="/")
    port = free_port()
    with log.open("ab") as out:
        site.start(programs / "postgres", "-D", data, "-p", str(port), "-k", data, "-c", "listen_addresses=127.0.0.1",
                   user="nobody", stderr=out, cwd="/")
    wait_for(port)

    def psql(text: str, *options: str, **environment: str) -> None:
        command = ["psql", "-X", "-p", str(port), "-U", "shop", "-d", "postgres", *options]
        subprocess.run(command, input=text, text=True, capture_output=True, check=False, env={**os.environ, "PGHOST": str(data), **environment})

    psql("CREATE TABLE orders (id BIGINT PRIMARY KEY, number VARCHAR(40) NOT NULL UNIQUE, status VARCHAR(10));")
    psql("", PGHOST="127.0.0.1", PGPASSWORD="x")
    time.sleep(0.5)
    grown = Grown(log)

    def note(label: str) -> None:
        for event in re.split(r"\n(?=.*\] (?:ERROR|FATAL|LOG): )", grown.read()):
            if not re.search(r"\] LOG: ", event):
                site.add("postgresql", f"postgresql/{label}", event)

    for turn in range(TIMES):
        r = random.Random(turn)
        words = {"name": r.choice(NAMES), "number": str(r.randrange(1, 10**r.randrange(2, 7))), "token": f"{r.getrandbits(64):016x}"}
        for label, text in PG.items():
            psql(text.format(**words))
            note(label)
        psql("", "-U", f"{words['name']}{words['number']}", PGHOST="127.0.0.1", PGPASSWORD="x")
        note("password")
        psql("", "-d", f"shop_{words['name']}")
        note("database")
