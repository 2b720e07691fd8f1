"""What systemd is told of the daemon: sd_notify(3), in our own words, because nothing else is needed of libsystemd.

A message is one datagram to `$NOTIFY_SOCKET`. Without that variable nobody listens and nothing is sent. Nothing here blocks or
raises: a daemon must not stop watching a shop because systemd does not listen. Each function says whether systemd was told.
"""

import os
import socket
import time


def notify(**fields: object) -> bool:
    """Send assignments such as `READY=1`, in one datagram. A value is one line: what comes after a line break would be a field of its own."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):                        # systemd knows vsock: addresses too, for virtual machines
        return False
    address = "\0" + path[1:] if path[0] == "@" else path      # @ stands for Linux's abstract names
    text = "\n".join(f"{name}={' '.join(str(value).split())}" for name, value in fields.items())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as endpoint:
            return endpoint.sendto(text.encode(), address) > 0
    except (OSError, ValueError):                              # gone, full, or no address at all
        return False


def ready(status: str = "") -> bool:
    """The start, or a reload, is over."""
    return notify(READY=1, STATUS=status)


def status(text: str) -> bool:
    """The line that `systemctl status` shows."""
    return notify(STATUS=text)


def reloading() -> bool:
    """A reload has begun. The time is what systemd tells this reload from an older one by; without it `systemctl reload` may wait for ever."""
    return notify(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)


def stopping() -> bool:
    """The end has begun. Final: say nothing of READY after it."""
    return notify(STOPPING=1)


def watchdog() -> bool:
    """We live. Only for somebody who has made sure of it: runs are started and commits go through."""
    return notify(WATCHDOG=1)


def extend(seconds: float) -> bool:
    """Starting or stopping takes longer: this many s from now on."""
    return notify(EXTEND_TIMEOUT_USEC=round(seconds * 1e6))


def watchdog_interval() -> float | None:
    """s after which systemd kills a daemon that did not call `watchdog` (call it twice as often); None when it does not look."""
    given, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if pid not in {"", str(os.getpid())} or not given.isascii() or not given.isdigit():
        return None
    return int(given) / 1e6 or None
