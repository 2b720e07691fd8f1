"""Workers without a browser: one that works, and others that do what no worker should. The first argument says which."""

import json
import os
import socket
import sys
import time
from random import Random
from typing import Any

from probes.checkout.job import VERSION, Report, StepReport


def frame(message: Any) -> bytes:
    data = json.dumps(message).encode()
    return len(data).to_bytes(4, "big") + data


def receive(connection: socket.socket) -> dict[str, Any]:
    def exactly(size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = connection.recv(size - len(data))
            if not more:
                sys.exit(0)
            data += more
        return data
    return dict(json.loads(exactly(int.from_bytes(exactly(4), "big"))))


GARBAGE = b"\xff" * 4 + Random(1).randbytes(1_000_000)          # what looks like a length is one that is refused
STEP = {"t": "step", "name": "basket", "seconds": 0.5, "reason": ""}
FINE = Report(steps=[StepReport("basket", 0.5)], seconds=0.5)
HELLO = frame({"t": "hello", "version": VERSION, "pid": os.getpid()})
BAD_START = {
    "mute": b"", "garbage": GARBAGE, "text": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "newer": frame({"t": "hello", "version": 99, "pid": 1}),
    "no hello": frame({"t": "begun"}), "huge": (2**31).to_bytes(4, "big"), "deep": (2_000_000).to_bytes(4, "big") + b"[" * 2_000_000,
}


def answers(mode: str, job: dict[str, Any]) -> bytes:
    """What it says when it is asked for a run."""
    begun = frame(STEP | {"state": "begun"})
    done = frame({"t": "done", "report": FINE.to_dict(), "memory": int(job["variables"].get("memory", 0))})
    return {
        "fine": frame({"t": "begun"}) + begun + frame(STEP | {"state": "ok"}) + done,
        "worn": frame({"t": "done", "report": Report(worn=True).to_dict(), "memory": 0}),
        "dies": begun, "exits": begun, "hangs": begun, "deaf": begun, "cut": begun + done[:-5],
        "no json": begun + (5).to_bytes(4, "big") + b"{nan}",
        "nan": begun + frame(STEP | {"state": "ok", "seconds": float("nan")}),
        "no report": begun + frame({"t": "done", "report": {"reason": "timeout"}, "memory": 0}),
        "other report": begun + frame({"t": "done", "report": Report(reason="whatever").to_dict(), "memory": 0}),
        "wrong types": begun + frame({"t": "done", "report": FINE.to_dict() | {"seconds": "long"}, "memory": 0}),
        "unknown": begun + frame({"t": "surprise"}), "answers itself": begun + frame({"t": "go", "why": ""}),
        "state": begun + frame(STEP | {"state": "whatever"}), "spam": begun * 6000,
        "flood": frame({"t": "artifact", "kind": "trace", "ext": "zip", "data": "A" * 20_000_000}) * 6,
        "evidence hangs": begun + frame({"t": "report", "report": Report("step", "no button").to_dict()}),
        "asks and dies": begun + frame({"t": "guard"}),
    }[mode]


def main(mode: str, number: int) -> None:
    connection = socket.socket(fileno=number)
    if mode == "late":
        time.sleep(1.6)
    connection.sendall(BAD_START.get(mode, HELLO))
    while mode in BAD_START:
        time.sleep(1)
    while True:
        message = receive(connection)
        if message["t"] != "run":
            continue
        job = message["job"]
        if mode == "late":
            report = Report("timeout", "not over", seconds=job["timeout"])
            connection.sendall(frame({"t": "begun"}) + frame({"t": "done", "report": report.to_dict(), "memory": 0}))
            continue
        connection.sendall(answers(mode, job))
        if mode == "exits":
            sys.exit("MemoryError: nothing left")
        if mode == "asks and dies":
            receive(connection)
        if mode in {"dies", "asks and dies"}:
            os.kill(os.getpid(), 9)
        if mode == "deaf":
            time.sleep(1000)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
