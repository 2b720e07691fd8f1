"""What one http probe costs: CPU microseconds of this process per probe, against a local nginx.

    python bench/http_probe.py [--runs 3] [--loops uvloop,asyncio] [--only ours,session,transport]

Rows: `ours` is probes.http with a body check, as the daemon runs it; `session` is the usual way to be fast with aiohttp
(one shared ClientSession, a connector that connects by itself, no tracing); `transport` is aiohttp's response parser on
the event loop's own transport and TLS. Closed: ten at a time, as fast as they go. Paced: 200 a second, one task each,
which is what a daemon does; the processor sleeps in between, so each probe costs more. Every figure comes from a
process of its own; the order is interleaved, so that a busy machine hits all rows alike. Needs nginx and openssl.
"""

import argparse
import asyncio
import gc
import json
import os
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

PLAIN, TLS, PORTS = 23000, 23500, 50
NEEDLE = "in-stock"
Ask = Callable[[str], Awaitable[bool]]


# The target ----------------------------------------------------------------------------------------------------------

def certificates(folder: Path) -> None:
    """A CA and a server certificate for 127.0.0.1 (P-256, as most shops have)."""
    def run(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    run("req", "-x509", *key, "-days", "30", "-subj", "/CN=bench", "-keyout", "ca.key", "-out", "ca.pem",
        "-addext", "keyUsage=critical,keyCertSign")
    run("req", *key, "-subj", "/CN=shop", "-keyout", "key.pem", "-out", "request.pem")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
    run("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30",
        "-extfile", "names", "-out", "cert.pem")


def serve(folder: Path, *, log: bool = False) -> subprocess.Popen[bytes]:
    """nginx with one worker on many ports, answering a page of 1 KiB; with `log`, it writes when it was asked for what."""
    certificates(folder)
    folder.chmod(0o755)
    (folder / "www").mkdir()
    (folder / "www" / "page.html").write_text(f"<html><title>Shop</title>{'x' * 980}{NEEDLE}</html>")
    listens = "\n".join(f"listen 127.0.0.1:{PLAIN + i} backlog=4096; listen 127.0.0.1:{TLS + i} ssl backlog=4096;" for i in range(PORTS))
    temporary = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    access = f"log_format when '$msec $request_uri'; access_log {folder}/access.log when buffer=64k flush=1s;" if log else "access_log off;"
    (folder / "nginx.conf").write_text(f"""
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; events {{ worker_connections 4096; }}
http {{
  {access} default_type text/html; {temporary}
  ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; ssl_session_cache off; ssl_session_tickets off;
  server {{ {listens} location / {{ root {folder}/www; try_files /page.html =404; }} }}
}}""")
    server = subprocess.Popen(["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL)
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", TLS)) == 0:
                return server
        time.sleep(0.05)
    raise SystemExit("nginx did not start")


def addresses(tls: bool) -> list[str]:
    """200 pages over all ports."""
    scheme, port = ("https", TLS) if tls else ("http", PLAIN)
    return [f"{scheme}://127.0.0.1:{port + i % PORTS}/page/{i}" for i in range(200)]


# The rows ------------------------------------------------------------------------------------------------------------

async def ours(ca: str) -> Ask:
    from probes.clients import Clients
    from probes.http import HttpSettings, probe
    from probes.sample import Outcome

    clients = await Clients().__aenter__()
    known: dict[str, HttpSettings] = {}

    async def ask(url: str) -> bool:
        settings = known.get(url)
        if settings is None:
            table = {"name": url, "url": url, "expect": {"body_contains": [NEEDLE]}, "tls": {"ca_file": ca}}
            settings = known[url] = HttpSettings.model_validate(table)
        sample = await probe(settings, clients)
        return sample.outcome is Outcome.OK

    return ask


async def session(ca: str) -> Ask:
    import aiohttp
    from yarl import URL

    class Connector(aiohttp.TCPConnector):
        async def _wrap_create_connection(self, *args, addr_infos, ssl, server_hostname, **_):
            family, kind, protocol, _, address = addr_infos[0]
            sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
            await self._loop.sock_connect(sock, address)
            return await self._loop.create_connection(*args, sock=sock, ssl=ssl, server_hostname=server_hostname)

    connector = Connector(force_close=True, limit=0, ssl=ssl.create_default_context(cafile=ca), use_dns_cache=False)
    shared = aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(total=10), cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("Accept-Encoding",), auto_decompress=False,
    )
    known: dict[str, URL] = {}

    async def ask(url: str) -> bool:
        async with shared.get(known.setdefault(url, URL(url)), allow_redirects=False) as answer:
            return answer.status == 200 and NEEDLE.encode() in await answer.read()

    return ask


async def transport(ca: str) -> Ask:
    from aiohttp.client_proto import ResponseHandler
    from yarl import URL

    context, loop = ssl.create_default_context(cafile=ca), asyncio.get_running_loop()
    known: dict[str, tuple[URL, bytes]] = {}

    async def ask(url: str) -> bool:
        if url not in known:
            parsed = URL(url)
            known[url] = parsed, f"GET {parsed.path} HTTP/1.1\r\nHost: {parsed.authority}\r\nConnection: close\r\n\r\n".encode()
        parsed, request = known[url]
        async with asyncio.timeout(10):
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            await loop.sock_connect(sock, (parsed.host, parsed.port))
            tls = {"ssl": context, "server_hostname": parsed.host} if parsed.scheme == "https" else {}
            wire, reader = await loop.create_connection(lambda: ResponseHandler(loop), sock=sock, **tls)
            reader.set_response_params(read_until_eof=True)
            wire.write(request)
            message, body = await reader.read()
            page = await body.read()
            wire.abort()
        return message.code == 200 and NEEDLE.encode() in page

    return ask


ROWS = {"ours": ours, "session": session, "transport": transport}


# Measuring -----------------------------------------------------------------------------------------------------------

async def closed(ask: Ask, urls: list[str], count: int) -> None:
    """Ten workers without a pause."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            assert await ask(urls[number % len(urls)])

    await asyncio.gather(*(work() for _ in range(10)))


async def paced(ask: Ask, urls: list[str], count: int, rate: float) -> None:
    """So many starts a second, whatever the answers do."""
    loop = asyncio.get_running_loop()
    begin, running = loop.time(), []
    for number in range(count):
        await asyncio.sleep(max(0.0, begin + number / rate - loop.time()))
        running.append(asyncio.create_task(ask(urls[number % len(urls)])))
    assert all(await asyncio.gather(*running))


def child(row: str, loop: str, tls: bool, ca: str, rate: float, count: int) -> None:
    async def main() -> None:
        ask, urls = await ROWS[row](ca), addresses(tls)
        await closed(ask, urls, len(urls))                 # warm
        gc.collect()
        gc.freeze()                                        # as the daemon does once it is configured
        cpu = time.process_time()
        await (paced(ask, urls, count, rate) if rate else closed(ask, urls, count))
        cpu = time.process_time() - cpu
        print(json.dumps([1e6 * cpu / count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]), flush=True)
        os._exit(0)                                        # the rest is not what is measured

    if loop == "uvloop":
        import uvloop
        uvloop.run(main())
    else:
        asyncio.run(main())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--loops", default="uvloop")
    parser.add_argument("--only", default=",".join(ROWS))
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--child", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        row, loop, tls, ca, rate, count = options.child
        child(row, loop, tls == "tls", ca, float(rate), int(count))
    found: dict[tuple[str, str, str, str], list[list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-http-") as folder:
        server = serve(Path(folder))
        try:
            cases = [(row, loop, tls, rate) for row in options.only.split(",") for loop in options.loops.split(",")
                     for tls in ("plain", "tls") for rate in (0.0, options.rate)]
            for case in cases * options.runs:
                row, loop, tls, rate = case
                words = [row, loop, tls, f"{folder}/ca.pem", str(rate), str(int(5 * rate) or 1500)]
                done = subprocess.run([sys.executable, __file__, "--child", *words], capture_output=True, text=True, check=True)
                key = row, loop, tls, f"{rate:g}/s" if rate else "closed"
                found.setdefault(key, []).append(json.loads(done.stdout))
        finally:
            server.terminate()
            server.wait()
    print(f"{'row':10} {'loop':8} {'':6} {'load':8} {'CPU us/probe: median (min-max)':32} RSS MiB")
    for (row, loop, tls, load), runs in found.items():
        cpu = [run[0] for run in runs]
        print(f"{row:10} {loop:8} {tls:6} {load:8} {f'{median(cpu):.0f} ({min(cpu):.0f}-{max(cpu):.0f})':32} {median(run[1] for run in runs):.0f}")


if __name__ == "__main__":
    main()
