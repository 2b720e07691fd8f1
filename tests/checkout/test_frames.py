"""Frames: what is sent arrives whole, and nothing else is taken."""

import asyncio
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.checkout import frames
from probes.checkout.frames import FrameError

STEP = {"t": "step", "name": "bäsket", "state": "ok", "seconds": 1, "reason": ""}


def stream(*data: bytes, end: bool = True) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    for piece in data:
        reader.feed_data(piece)
    if end:
        reader.feed_eof()
    return reader


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


async def refusal(data: bytes, largest: int = 1000) -> str:
    with pytest.raises(FrameError) as caught:
        await frames.read(stream(data), largest)
    return str(caught.value)


async def test_what_is_sent_arrives_byte_by_byte_and_in_one_piece() -> None:
    data = frames.encode(STEP) + frames.encode({"t": "begun"})
    for reader in (stream(data), stream(*(bytes([byte]) for byte in data))):
        assert [await frames.read(reader), await frames.read(reader)] == [STEP, {"t": "begun"}]


async def test_the_end_of_the_stream_is_told_from_a_message_cut_off() -> None:
    assert await refusal(b"") == "it ended"
    whole = frames.encode(STEP)
    assert {await refusal(whole[:length]) for length in range(1, len(whole))} == {"it ended in the middle of a message"}


async def test_a_length_that_is_too_large_is_refused_before_anything_is_read() -> None:
    reader = stream((1001).to_bytes(4, "big"), end=False)
    with pytest.raises(FrameError, match="a message of 1001 bytes: at most 1000 are taken"):
        await asyncio.wait_for(frames.read(reader, 1000), 1)


@pytest.mark.parametrize("data", [
    b"", b"\xff\xfe", b"{", b"[" * 100_000, b'{"a":' * 100_000, b'{"t":"begun"} x', b"9" * 10_000,
    json.dumps(STEP | {"seconds": float("nan")}).encode(), json.dumps(STEP | {"seconds": float("inf")}).encode()])
async def test_what_is_no_json_is_refused(data: bytes) -> None:
    assert await refusal(framed(data), 1_000_000) == "what it sent is not JSON"


@pytest.mark.parametrize("message", [
    [], 1, None, {}, {"t": 1}, {"t": []}, {"t": "surprise"}, {"t": "begun", "more": 1},
    {"t": "hello", "version": "1", "pid": 1}, {"t": "hello", "version": 1},
    STEP | {"name": 1}, STEP | {"name": "x" * 1001}, STEP | {"seconds": True}, STEP | {"seconds": "1"}, {"t": "run", "version": 1, "job": []},
    {"t": "done", "report": {}, "memory": 1.5}, {"t": "done", "report": [], "memory": 1}])
async def test_what_is_no_message_is_refused(message: object) -> None:
    assert await refusal(framed(json.dumps(message).encode()), 10_000) == "it sent a message that this version does not know"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    async def given_() -> None:
        with suppress(FrameError):
            assert (await frames.read(stream(data)))["t"] in frames.SHAPES
    asyncio.run(given_())


def test_what_is_too_large_or_no_json_is_not_sent() -> None:
    for message in ({"t": "artifact", "data": "x" * frames.LARGEST}, {"t": "step", "seconds": float("nan")}, {"t": "step", "seconds": b""}):
        with pytest.raises(FrameError, match=r"a message of|cannot be sent"):
            frames.encode(message)
