"""The demo's on-call phone: a webhook receiver on loopback that checks signatures and keeps what it got."""

import base64
import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Inbox:
    """Messages in the order in which they came. A message sent again (the same webhook-id) is kept once."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self.secret = "whsec_" + base64.b64encode(self._key).decode()
        self.messages: list[dict[str, Any]] = []
        self._ids: set[str] = set()
        self.port = 0

    @classmethod
    @contextmanager
    def listening(cls) -> Iterator["Inbox"]:
        """An inbox that listens on a free port until it is left."""
        inbox = cls()
        server = ThreadingHTTPServer(("127.0.0.1", 0), inbox.handler())
        inbox.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield inbox
        finally:
            server.shutdown()
            server.server_close()

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """The HTTP status for one delivery. Standard Webhooks: HMAC-SHA256 over id.timestamp.body."""
        id_ = headers.get("webhook-id", "")
        signed = f"{id_}.{headers.get('webhook-timestamp', '')}.".encode() + body
        wanted = "v1," + base64.b64encode(hmac.digest(self._key, signed, hashlib.sha256)).decode()
        if not any(hmac.compare_digest(wanted, given) for given in headers.get("webhook-signature", "").split()):
            return 401
        if id_ not in self._ids:
            self._ids.add(id_)
            self.messages.append(json.loads(body))
        return 204

    def handler(self) -> type[BaseHTTPRequestHandler]:
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                self.send_response(inbox.take({k.lower(): v for k, v in self.headers.items()}, body))
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
                """Nothing on the terminal."""
        return Handler
