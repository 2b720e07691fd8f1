"""A small shop of five pages behind nginx, as static files: style, script, pictures, a form. What every browser of the comparison walks through."""

import os
import struct
import subprocess
import time
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PORT = 22_480
BASE = f"http://127.0.0.1:{PORT}"
PICTURES, PIXELS = 6, 100
RULES, ITEMS, SHOWN = 800, 20_000, 200
SCRIPT = f"""
const items = Array.from({{length: {ITEMS}}}, (_, number) => ({{number, title: "Tea no. " + number}}))
addEventListener("DOMContentLoaded", () => {{
  for (const item of items.slice(0, {SHOWN})) {{
    const line = document.createElement("div")
    line.className = "c" + item.number
    line.textContent = item.title
    document.querySelector("#list").append(line)
  }}
}})
"""
PAGES = {
    "index": "<a id=product href=/product.html>Sencha</a>",
    "product": "<h1>Sencha</h1><a id=add href=/cart.html>Add to basket</a>",
    "cart": "<p class=total>EUR 23.40</p><a id=checkout href=/checkout.html>Checkout</a>",
    "checkout": ("<form action=/thanks.html><input id=name name=name><input id=email name=email><input id=card name=card>"
                 "<button id=pay>Pay</button></form>"),
    "thanks": "<h1 id=thanks>Thank you for your order</h1>",
}
NGINX = """
daemon off; worker_processes 1; pid {d}/pid; error_log {d}/error.log error;
events {{ worker_connections 256; }}
http {{
  include /etc/nginx/mime.types; access_log {d}/access.log;
  client_body_temp_path {d}/1; proxy_temp_path {d}/2; fastcgi_temp_path {d}/3; uwsgi_temp_path {d}/4; scgi_temp_path {d}/5;
  server {{ listen 127.0.0.1:{port}; root {d}/www; }}
}}
"""


def picture() -> bytes:
    """A PNG of noise: it does not compress, as photographs do not."""
    rows = b"".join(b"\0" + os.urandom(3 * PIXELS) for _ in range(PIXELS))

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", PIXELS, PIXELS, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


def build(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.css").write_text("body{font:16px sans-serif}" + "".join(f".c{n}{{margin:{n % 7}px;color:#{n:03x}}}" for n in range(RULES)))
    (folder / "a.js").write_text(SCRIPT + "//" + "x" * 60_000)
    for number in range(PICTURES):
        (folder / f"{number}.png").write_bytes(picture())
    shown = "".join(f"<img src=/{number}.png width=100 height=100>" for number in range(PICTURES))
    for name, body in PAGES.items():
        head = f"<!doctype html><html lang=en><title>{name}</title><link rel=icon href=data:,><link rel=stylesheet href=/a.css>"
        (folder / f"{name}.html").write_text(f"{head}<script src=/a.js></script><body>{shown}{body}<div id=list></div>")


@contextmanager
def shop(folder: Path) -> Iterator[Path]:
    """Serve it at BASE; gives nginx's access log."""
    folder.chmod(0o755)
    build(folder / "www")
    (folder / "nginx.conf").write_text(NGINX.format(d=folder, port=PORT))
    with subprocess.Popen(["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL) as nginx:
        try:
            _until_it_serves()
            yield folder / "access.log"
        finally:
            nginx.terminate()


def _until_it_serves() -> None:
    for _ in range(100):
        try:
            urllib.request.urlopen(f"{BASE}/index.html", timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("nginx does not serve: apt install nginx-light")


def walked(log: Path) -> int:
    """How many flows came to their end."""
    return sum('"GET /thanks.html' in line and '" 200 ' in line for line in log.read_text().splitlines())
