"""What stands around Tillwatch on the booted machine, as a script of its own (standard library only): a shop, plain and
over TLS; an inbox that keeps every webhook in /srv/inbox; a name server that calls every name 127.0.0.1."""

import json
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Shop(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<html><body><h1>Shirts</h1><button>Add to basket</button></body></html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Inbox(Shop):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        letter = {"headers": dict(self.headers), "body": body}
        Path(f"/srv/inbox/{time.time_ns()}.json").write_text(json.dumps(letter), encoding="utf-8")
        self.send_response(204)
        self.end_headers()


def names() -> None:
    """Every A is 127.0.0.1, everything else has no records."""
    endpoint = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    endpoint.bind(("127.0.0.1", 53))
    while True:
        query, whom = endpoint.recvfrom(512)
        end = query.index(b"\0", 12) + 5
        found = query[end - 4:end - 2] == b"\0\1"
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\x05\0\x04\x7f\0\0\1" if found else b""
        endpoint.sendto(query[:2] + b"\x81\x80\0\1" + (b"\0\1" if found else b"\0\0") + b"\0\0\0\0" + query[12:end] + answer, whom)


Path("/srv/inbox").mkdir(parents=True, exist_ok=True)
secure = ThreadingHTTPServer(("127.0.0.1", 8443), Shop)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/srv/tls.pem")
secure.socket = context.wrap_socket(secure.socket, server_side=True)
for serve in (secure.serve_forever, ThreadingHTTPServer(("127.0.0.1", 8001), Inbox).serve_forever, names):
    threading.Thread(target=serve, daemon=True).start()
ThreadingHTTPServer(("127.0.0.1", 8000), Shop).serve_forever()
