"""What a server on loopback can do wrong over HTTP, and the reason that each gets."""

import asyncio
import socket
import zlib
from typing import Any

import brotli
from backports.zstd import ZstdCompressor
from loopback import page, request_of


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nabc")
    await writer.drain()
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


async def drip_header(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
    while True:
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.1)


async def drip_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.2)


async def endless_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"8000\r\n" + b"a" * 0x8000 + b"\r\n")
        await writer.drain()


async def endless_interim(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


async def ten_gigabytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
    while True:
        writer.write(b"a" * 65536)
        await writer.drain()


HOSTILE: list[tuple[str, Any, str]] = [
    ("accepts and says nothing", silent, "timeout"),
    ("drips a header", drip_header, "timeout"),
    ("drips the body", drip_body, "timeout"),
    ("never ends its interim answers", endless_interim, "protocol"),
    ("hangs up on the request", hang_up, "disconnected"),
    ("resets in the body", reset, "disconnected"),
    ("chunks without end", endless_chunks, "too_large"),
    ("sends 10 GB", ten_gigabytes, "too_large"),
    ("sends less than it said", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", "protocol"),
    ("cuts a chunked body", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", "protocol"),
    ("has a bad chunk size", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n", "protocol"),
    ("gives two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", "protocol"),
    ("gives no number as length", b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nabc", "protocol"),
    ("has a header of 1 MB", b"HTTP/1.1 200 OK\r\nX-Big: " + b"a" * 1_000_000 + b"\r\n\r\n", "protocol"),
    ("has 10,000 headers", b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 10_000 + b"\r\n", "protocol"),
    ("has a status line of 1 MB", b"HTTP/1.1 200 " + b"a" * 1_000_000 + b"\r\n\r\n", "protocol"),
    ("speaks another protocol", b"220 mail.example ESMTP\r\n", "protocol"),
    ("speaks TLS on a plain port", b"\x15\x03\x01\x00\x02\x02\x46", "protocol"),
    ("says gzip and is not", page("no gzip", "200 OK", "Content-Encoding: gzip"), "protocol"),
    ("says deflate and is not", page(b"\x01\x02\x03no", "200 OK", "Content-Encoding: deflate"), "protocol"),
    ("says br and is not", page("no brotli at all", "200 OK", "Content-Encoding: br"), "protocol"),
    ("says zstd and is not", page("no zstd at all", "200 OK", "Content-Encoding: zstd"), "protocol"),
    ("nests encodings", page("whatever", "200 OK", "Content-Encoding: gzip, gzip"), "protocol"),
    ("uses an unknown encoding", page("whatever", "200 OK", "Content-Encoding: exi"), "protocol"),
    ("redirects to a file", page("", "302 Found", "Location: file:///etc/passwd"), "redirects"),
    ("redirects to ftp", page("", "302 Found", "Location: ftp://127.0.0.1/x"), "redirects"),
    ("redirects to nonsense", page("", "302 Found", "Location: http://[::1"), "redirects"),
    ("redirects to no host", page("", "302 Found", "Location: http:///x"), "redirects"),
    ("redirects to a script", page("", "302 Found", "Location: javascript:alert(1)"), "redirects"),
    ("redirects to itself", page("", "302 Found", "Location: /"), "redirects"),
    ("redirects to cloud metadata", page("", "302 Found", "Location: http://169.254.169.254/latest"), "redirects"),
    ("redirects to it in IPv6 clothes", page("", "302 Found", "Location: http://[::ffff:169.254.169.254]/"), "redirects"),
    ("redirects to a name that cannot be", page("", "302 Found", f"Location: http://{'a' * 300}.example/"), "dns"),
    ("redirects to an empty label", page("", "302 Found", "Location: http://a..b/"), "dns"),
    ("is broken", page("<title>Oops</title>", "500 Internal Server Error"), "status"),
]



# Floods: bytes without end that become no page. What is sent first, and what is then repeated. ------------------------

_OK = b"HTTP/1.1 200 OK\r\n"
_CHUNKED = _OK + b"Transfer-Encoding: chunked\r\n\r\n"

FLOODS: list[tuple[str, bytes, bytes]] = [
    ("floods with interim answers", b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 2_000),
    ("floods with blank lines", b"", b"\r\n" * 32_000),
    ("floods with the blanks before a header's value", _OK + b"X:", b" " * 65_536),
    ("floods with headers", _OK, b"X-A: b\r\n" * 8_000),
    ("floods with a chunk's extension", _CHUNKED + b"1;", b"a" * 65_536),
    ("floods with a chunk's length", _CHUNKED, b"0" * 65_536),
    ("floods with chunks of one byte", _CHUNKED, b"1\r\na\r\n" * 10_000),
    ("floods with trailers", _CHUNKED + b"0\r\n", b"X: y\r\n" * 10_000),
    ("floods with empty deflate blocks", _OK + b"Content-Encoding: deflate\r\n\r\n\x78\x9c", b"\0\0\0\xff\xff" * 13_000),
    ("floods with empty zstd frames", _OK + b"Content-Encoding: zstd\r\n\r\n", b"\x28\xb5\x2f\xfd\x20\0\1\0\0" * 7_000),
]


def flood(first: bytes, again: bytes) -> Any:
    """A server that answers `first`, and then `again` as fast as it is taken."""
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(first)
        while True:
            writer.write(again)
            await writer.drain()

    return talk


# Bombs: 300 MB of zeros in a few hundred kB. --------------------------------------------------------------------------

def gzip_bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.compress(b"") + packer.flush(zlib.Z_SYNC_FLUSH)
    block = packer.compress(bytes(10_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + block * 30


def brotli_bomb() -> bytes:
    packer = brotli.Compressor(quality=1)
    return b"".join([*(packer.process(bytes(3_000_000)) for _ in range(100)), packer.finish()])


def zstd_bomb() -> bytes:
    packer = ZstdCompressor()
    return b"".join([*(packer.compress(bytes(3_000_000)) for _ in range(100)), packer.flush()])
