"""The listener: what can be changed about it while it serves."""

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme
from aiohttp import ClientSession, web

from monitor.web.server import Listener
from monitor.web.settings import WebSettings


async def hello(_request: web.Request) -> web.Response:
    return web.Response(text="hello")


def certify(folder: Path, name: str) -> None:
    """Put a certificate for that name, of an authority of its own, into place."""
    leaf = trustme.CA().issue_cert("127.0.0.1", common_name=name)
    leaf.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))


async def shown(port: int) -> bytes:
    """The certificate that a fresh connection is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return bytes(found)


def settings(folder: Path, **more: object) -> WebSettings:
    tls = {"cert_file": "cert.pem", "key_file": "key.pem"}
    return WebSettings.model_validate({"listen": "127.0.0.1:0", "tls": tls} | more, context={"base": folder})


async def test_a_renewed_certificate_is_shown_to_whoever_comes_next(tmp_path: Path) -> None:
    certify(tmp_path, "one")
    async with Listener(settings(tmp_path), [web.get("/", hello)]) as listener:
        first = await shown(listener.port)
        certify(tmp_path, "two")
        assert await shown(listener.port) == first, "not before it is told to"
        listener.change(settings(tmp_path))
        second = await shown(listener.port)
        assert second != first
        (tmp_path / "key.pem").write_text("no key")
        with pytest.raises(OSError):
            listener.change(settings(tmp_path))
        assert await shown(listener.port) == second, "what cannot be used changes nothing"


async def test_another_name_of_our_own_is_served_at_once() -> None:
    async with Listener(WebSettings(listen="127.0.0.1:0"), [web.get("/", hello)]) as listener, ClientSession() as session:
        async def status() -> int:
            async with session.get(f"http://127.0.0.1:{listener.port}/", headers={"Host": "watch.example"}) as answer:
                return answer.status
        assert await status() == 403
        listener.change(WebSettings(listen="127.0.0.1:0", url="https://watch.example/"))
        assert await status() == 200
