"""How daemon and browser worker write to each other: a length of four bytes (big-endian), then a JSON object of so many bytes.

Whoever reads trusts nobody: a frame is bounded, and what is not exactly a message as SHAPES has them is an error of the other end.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NoReturn

LARGEST = 32 * 1024 * 1024       # bytes of a frame: a trace in Base64
_HEAD = 4
_NAME = 1000                     # characters of a text that is not data

# Every message by its "t", and of what type its fields are; others are refused.
SHAPES: dict[str, dict[str, type]] = {
    "hello": {"version": int, "pid": int},                                       # the worker, or the socket's server, first of all
    "turn": {},                                                                  # the server: the browser is free for this run
    "run": {"version": int, "job": dict},
    "cancel": {},
    "guard": {},
    "go": {"why": str},
    "begun": {},                                                                 # the browser stands, the flow begins
    "step": {"name": str, "state": str, "seconds": float, "reason": str},
    "artifact": {"kind": str, "ext": str, "data": str},
    "report": {"report": dict},                                                  # what holds should nothing more come
    "done": {"report": dict, "memory": int},                                     # bytes of the worker with all that it started
}
_LONG = {"data"}


class FrameError(Exception):
    """The other end does not speak this protocol; the text says why."""


async def read(reader: asyncio.StreamReader, largest: int = LARGEST) -> dict[str, Any]:
    """The next message. Raises FrameError, also at the end of the stream, and OSError."""
    head = b""
    try:
        head = await reader.readexactly(_HEAD)
        size = int.from_bytes(head, "big")
        if size > largest:
            raise FrameError(f"a message of {size} bytes: at most {largest} are taken")
        data = await reader.readexactly(size)
    except asyncio.IncompleteReadError as error:
        raise FrameError("it ended in the middle of a message" if head or error.partial else "it ended") from None
    return decode(data)


def decode(data: bytes) -> dict[str, Any]:
    """The message in the bytes of a frame. Raises FrameError."""
    try:
        message = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise FrameError("what it sent is not JSON") from None
    if not isinstance(message, dict) or not _fits(message):
        raise FrameError("it sent a message that this version does not know")
    return message


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


def _fits(message: Mapping[str, Any]) -> bool:
    kind = message.get("t")
    shape = SHAPES.get(kind) if isinstance(kind, str) else None
    return shape is not None and message.keys() == {"t", *shape} and all(_is(name, message[name], type_) for name, type_ in shape.items())


def _is(name: str, value: object, type_: type) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float) if type_ is float else type_):
        return False
    return not isinstance(value, str) or name in _LONG or len(value) <= _NAME


def encode(message: Mapping[str, Any]) -> bytes:
    """The frame of a message. Raises FrameError when it is too large, or is no JSON."""
    try:
        data = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise FrameError(f"cannot be sent: {error}") from None
    if len(data) > LARGEST:
        raise FrameError(f"a message of {len(data)} bytes: at most {LARGEST} are sent")
    return len(data).to_bytes(_HEAD, "big") + data


async def write(writer: asyncio.StreamWriter, message: Mapping[str, Any]) -> None:
    """Send a message; returns when the other end takes it. Raises FrameError and OSError."""
    writer.write(encode(message))
    await writer.drain()
