"""Faults as web servers log them."""

import base64
import http.client
import os
import re
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from random import Random

import databases
from site_of_faults import Grown, Site, free_port, wait_for

TIMES = 30
VIA_FPM = ("key-shipping", "key-tax", "key-tax-gift", "member-on-null-gift", "member-on-null-checkout", "payment-declined", "payment-chained",
           "stock-reserved", "type-error", "sql-table", "log-fraud")

NGINX = """
user nobody nogroup; daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log warn; worker_rlimit_nofile 512;
events {{ worker_connections 256; }}
http {{
  access_log off; large_client_header_buffers 4 16k; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  limit_req_zone $server_name zone=login:1m rate=1r/m; limit_req_zone $server_name zone=search:1m rate=1r/m;
  limit_conn_zone $server_name zone=per_server:1m;
  upstream shop_backend {{ server 127.0.0.1:1 max_fails=1 fail_timeout=600; server 127.0.0.1:2 max_fails=1 fail_timeout=600; }}
  upstream search_backend {{ server 127.0.0.1:1 max_fails=1 fail_timeout=600; server 127.0.0.1:3 max_fails=1 fail_timeout=600; }}
  proxy_read_timeout 300ms; proxy_buffer_size 4k; proxy_buffers 4 4k; proxy_busy_buffers_size 8k;
  server {{
    listen 127.0.0.1:{port}; server_name shop.example www.shop.example; root {folder}/www;
    location /refused/ {{ proxy_pass http://127.0.0.1:1; }}
    location /silent/ {{ proxy_pass http://127.0.0.1:{silent}; }}
    location /closes/ {{ proxy_pass http://127.0.0.1:{closes}; }}
    location /cut/ {{ proxy_pass http://127.0.0.1:{cut}; }}
    location /garbage/ {{ proxy_pass http://127.0.0.1:{garbage}; }}
    location /big/ {{ proxy_pass http://127.0.0.1:{big}; }}
    location /backend/ {{ proxy_pass http://shop_backend; }}
    location /find/ {{ proxy_pass http://search_backend; }}
    location /named/ {{ proxy_pass http://$arg_to.shop.example/; }}
    location /secret/ {{ deny all; }}
    location /upload/ {{ client_max_body_size 1k; proxy_pass http://127.0.0.1:1; }}
    location /body/ {{ client_body_buffer_size 1k; client_max_body_size 1m; proxy_pass http://127.0.0.1:{ok}; }}
    location /login/ {{ limit_req zone=login; }}
    location /search/ {{ limit_req zone=search; }}
    location /admin/ {{ auth_basic "x"; auth_basic_user_file {folder}/users; }}
    location /cycle/ {{ rewrite ^/cycle/(.*)$ /cycle/$1a; }}
    location /php/ {{ fastcgi_pass unix:{folder}/fpm.sock; fastcgi_param SCRIPT_FILENAME $http_x_root/run.php;
                      fastcgi_param QUERY_STRING $http_x_fault; fastcgi_param REQUEST_METHOD GET; }}
  }}
}}
"""

FPM = """
[global]
error_log = {folder}/fpm{name}.log
daemonize = no
[www]
user = nobody
listen = {folder}/fpm{name}.sock
listen.mode = 0666
pm = static
pm.max_children = 2
catch_workers_output = yes
request_terminate_timeout = 1
env[DB_PORT] = {db}
php_admin_value[error_log] =
php_admin_value[log_errors] = 1
php_admin_value[display_errors] = 0
"""

WSGI = """
import time

def app(environ, start_response):
    kind = environ["PATH_INFO"].split("/")[1]
    if kind == "hang":
        time.sleep(60)
    return {}[kind]
"""


def _answers(answer: bytes | None) -> int:
    """The port of a server that sends this to everybody and hangs up, or never says anything."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    kept = []

    def serve() -> None:
        while True:
            connection = listener.accept()[0]
            kept.append(connection)
            if answer is not None:
                connection.recv(65536)
                connection.sendall(answer)
                connection.close()

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


def nginx(site: Site) -> None:
    databases.mariadb_for(site)
    site.install("shop.php", "////")
    folder, port = site.folder, free_port()
    (folder / "www/empty").mkdir(parents=True)
    (folder / "www/closed").mkdir(mode=0o700)
    (folder / "users").write_text("shop:$apr1$x$7gZcCYF0Qf6bVlzYn0zPM1\n")
    answers = {"silent": None, "closes": b"", "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", "garbage": b"HTTP/1.1 200 OK\r\n:x\r\n\r\n",
               "big": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 9000 + b"\r\n\r\n", "ok": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}
    ports = {name: _answers(answer) for name, answer in answers.items()}
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, **ports))
    (folder / "fpm.conf").write_text(FPM.format(folder=folder, db=site.db_port, name=""))
    extensions = [word for name in ("pdo", "mysqlnd", "pdo_mysql") for word in ("-d", f"extension={name}")]
    site.start("php-fpm8.2", "-n", *extensions, "-y", folder / "fpm.conf", stderr=subprocess.DEVNULL)
    site.start("nginx", "-c", folder / "nginx.conf")
    wait_for(port)
    log = Grown(folder / "nginx.log")

    def ask(label: str, path: str, mark: str, *, body: bytes = b"", headers: dict[str, str] | None = None, patience: float = 3.0) -> None:
        """One request, and the lines of it in the log."""
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            client.request("POST" if body else "GET", path, body or None, {"Host": "shop.example", **(headers or {})})
            client.getresponse().read()
        except (OSError, http.client.HTTPException):
            pass
        client.close()
        for event in re.split(r"\n(?=\d{4}/)", log.read(patience)):
            site.add("nginx_error", f"nginx/{label}", event, mark)

    for turn in range(TIMES):
        r = Random(turn)
        tail = f"{r.choice(databases.NAMES)}/{r.getrandbits(48):x}?order={r.randrange(10**6)}"
        name = tail.replace("/", "-").partition("?")[0]
        from_ = {"Referer": f"https://shop.example/{name}"} if turn % 2 else {}
        ask("refused", f"/refused/{tail}", "refused", headers=from_)
        ask("timed-out", f"/silent/{tail}", "timed out", headers=from_)
        ask("closed", f"/closes/{tail}", "prematurely closed", headers=from_)
        ask("cut", f"/cut/{tail}", "prematurely closed")
        ask("garbage", f"/garbage/{tail}", "invalid header")
        ask("big-header", f"/big/{tail}", "too big header", headers=from_)
        ask("resolver", f"/named/?to={name}", "no resolver")
        ask("missing", f"/media/{tail}", "No such file")
        ask("index", f"/empty/?{tail}", "directory index")
        ask("permission", f"/closed/{tail}", "Permission denied")
        ask("forbidden", f"/secret/{tail}", "forbidden by rule", headers=from_)
        ask("too-large", f"/upload/{tail}", "too large body", body=b"x" * (2000 + r.randrange(9000)))
        ask("buffered", f"/body/{tail}", "buffered to a temporary file", body=b"x" * (20000 + r.randrange(90000)))
        ask("login", f"/login/{tail}", "limiting requests", patience=0.05)
        ask("search", f"/search/{tail}", "limiting requests", patience=0.05)
        stranger = base64.b64encode(f"{databases.NAMES[turn % 10]}{turn}:x".encode()).decode()
        ask("no-user", f"/admin/{tail}", "was not found in", headers={"Authorization": f"Basic {stranger}"})
        ask("password", f"/admin/{tail}", "password mismatch", headers={"Authorization": "Basic c2hvcDp4eA=="})
        ask("cycle", f"/cycle/{tail}", "internal redirection cycle")
        ask("backend", f"/backend/{tail}", "no live upstreams", headers=from_)
        ask("backend-search", f"/find/{tail}", "no live upstreams", headers=from_)
        ask("script", f"/php/{tail}", "Primary script unknown", headers={"X-Root": f"/srv/shop/releases/{name}"})
        for kind in VIA_FPM:
            ask(f"php-{kind}", f"/php/{tail}", "PHP message", headers={"X-Root": str(site.release(turn)), "X-Fault": f"kind={kind}&seed={turn}"})


def fpm(site: Site) -> None:
    """What PHP-FPM logs itself: the words of its workers, and their ends."""
    site.install("shop.php", "////")
    folder = site.folder
    (folder / "fpm2.conf").write_text(FPM.format(folder=folder, db=site.db_port, name="2"))
    site.start("php-fpm8.2", "-n", "-d", "fastcgi.logging=0", "-y", folder / "fpm2.conf", stderr=subprocess.DEVNULL)
    while not (folder / "fpm2.sock").exists():
        time.sleep(0.05)
    log = Grown(folder / "fpm2.log")
    for turn in range(TIMES // 2):
        for kind in ("key-shipping", "key-tax-gift", "payment-declined", "member-on-null-gift", "log-stock"):
            _fastcgi(site, turn, kind)
            time.sleep(0.02)
            site.add("php_fpm", f"fpm/{kind}", log.read(), "said into stderr")
        _fastcgi(site, turn, "hang")
        for line in log.read(3, lines=3).splitlines():
            if "timed out" in line:
                site.add("php_fpm", "fpm/slow", line)
            elif "SIGTERM" in line:
                site.add("php_fpm", "fpm/terminated", line)
        children = subprocess.run(["pgrep", "-P", str(_master(folder))], check=True, capture_output=True, text=True).stdout.split()
        os.kill(int(children[0]), signal.SIGKILL)
        for line in log.read(3, lines=2).splitlines():
            site.add("php_fpm", "fpm/killed", line, "SIGKILL")


def _master(folder: object) -> int:
    for pid in subprocess.run(["pgrep", "-f", f"{folder}/fpm2.conf"], check=True, capture_output=True, text=True).stdout.split():
        return int(pid)
    raise ProcessLookupError


def _fastcgi(site: Site, turn: int, kind: str) -> None:
    """One request as a web server would make it."""
    def pair(name: str, value: str) -> bytes:
        return bytes([len(name)]) + (len(value) | 1 << 31).to_bytes(4, "big") + name.encode() + value.encode()

    def record(number: int, body: bytes) -> bytes:
        return bytes([1, number, 0, 1]) + len(body).to_bytes(2, "big") + b"\0\0" + body

    query = f"kind={kind}&seed={turn}"
    words = pair("SCRIPT_FILENAME", str(site.release(turn) / "run.php")) + pair("REQUEST_METHOD", "GET") + pair("QUERY_STRING", query)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(site.folder / "fpm2.sock"))
        client.sendall(record(1, b"\0\1\0\0\0\0\0\0") + record(4, words) + record(4, b"") + record(5, b""))
        with suppress(OSError):                    # a worker that is killed hangs up
            while client.recv(65536):
                pass


def gunicorn(site: Site) -> None:
    """Workers that hang, and an address that is taken."""
    app = site.folder / "srv/shop/app"
    app.mkdir(parents=True, exist_ok=True)
    (app / "shop_wsgi.py").write_text(WSGI)
    port, log, program = free_port(), site.folder / "gunicorn.log", site.python.parent / "gunicorn"
    bind = ["-b", f"127.0.0.1:{port}", "shop_wsgi:app"]
    site.start(program, "-t", "1", "--graceful-timeout", "1", "-w", "8", "--log-file", log, *bind, cwd=app)
    wait_for(port)
    time.sleep(1)
    grown = Grown(log)
    for turn in range(12):
        for key in ("cart", "voucher"):
            _get(port, f"/{key}/{turn}")
            site.add("gunicorn", f"gunicorn/key-{key}", grown.read(lines=5))
    for turn in range(12):
        threading.Thread(target=_get, args=(port, f"/hang/{turn}")).start()
    time.sleep(5)
    for line in grown.read().splitlines():
        for mark, label in (("WORKER TIMEOUT", "timeout"), ("exited with code", "exited"), ("was sent SIG", "sent")):
            if mark in line:
                site.add("gunicorn", f"gunicorn/{label}", line)
    for _ in range(6):
        done = subprocess.run([program, *bind], cwd=app, check=False, capture_output=True, text=True, timeout=30)
        for line in done.stderr.splitlines():
            for mark, label in (("Connection in use", "in-use"), ("connection to", "not-connected"), ("Can't connect", "cannot-connect")):
                if mark in line:
                    site.add("gunicorn", f"gunicorn/{label}", line)


def _get(port: int, path: str) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        client.request("GET", path)
        client.getresponse().read()
    except (OSError, http.client.HTTPException):
        pass
    client.close()
