"""What is used of aiohttp beyond its documented names: a new version that changes it is noticed here, not in a shop."""

import asyncio
import inspect
import subprocess
import sys

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler


def test_reader_still_takes_what_it_is_given() -> None:
    names = inspect.signature(ResponseHandler.set_response_params).parameters.keys()
    assert {"skip_payload", "read_until_eof", "read_bufsize"} <= names
    assert list(inspect.signature(ResponseHandler).parameters) == ["loop"]
    assert issubclass(ResponseHandler, asyncio.Protocol)


def test_limits_are_still_the_documented_ones() -> None:
    defaults = inspect.signature(ResponseHandler.set_response_params).parameters
    assert [defaults[name].default for name in ("max_line_size", "max_field_size", "max_headers")] == [8190, 8190, 128]


def test_the_parser_in_c_is_used() -> None:
    # The one in Python is ten times slower, and where the request smuggling bugs were.
    from aiohttp import http_parser

    assert http_parser.HttpResponseParser is http_parser.HttpResponseParserC


def test_all_encodings_that_are_asked_for_can_be_decoded() -> None:
    from aiohttp import compression_utils

    assert compression_utils.HAS_BROTLI
    assert compression_utils.HAS_ZSTD


async def test_reader_gives_message_and_body() -> None:
    reader = ResponseHandler(asyncio.get_running_loop())
    reader.connection_made(asyncio.Transport())
    reader.set_response_params(skip_payload=False, read_until_eof=True, read_bufsize=1000)
    reader.data_received(b"HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nX: y\r\n\r\nab")
    message, body = await reader.read()
    assert (message.code, message.reason, message.version, message.headers["x"]) == (200, "Fine", (1, 1), "y")
    assert await body.readany() == b"ab"
    assert await body.readany() == b""
    reader.connection_lost(None)


def test_version_is_the_pinned_one() -> None:
    assert aiohttp.__version__.startswith("3.14."), "read the changes of aiohttp's client_proto before this is raised"


@pytest.mark.parametrize("module", ["sample", "fields", "scrub", "reasons"])
def test_pure_modules_stay_light(module: str) -> None:
    code = f"import sys, probes.{module}; print({{'aiohttp', 'asyncio', 'aiodns', 'uvloop'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
