"""The shop's two logs, as a web server and a Python framework write them: access.log and error.log."""

import logging
import logging.handlers
import re
from datetime import datetime, timedelta
from pathlib import Path

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger


def open_logs(folder: Path) -> logging.Logger:
    """Sends this process's logging to both files, and gives the logger of access.log.

    The files are flushed at each line and reopened when they were rotated.
    """
    errors = _handler(folder / "error.log", "%(asctime)s %(levelname)s [%(name)s] %(message)s")
    logging.basicConfig(level=logging.WARNING, handlers=[errors], force=True)
    access = logging.getLogger("kettle.access")
    access.addHandler(_handler(folder / "access.log", "%(message)s"))
    access.setLevel(logging.INFO)
    access.propagate = False
    return access


def printable(text: str) -> str:
    """Text from outside as it may stand in a quoted field of a log line, escaped as nginx does."""
    return re.sub(r'[^ -~]|["\\]', _escaped, text)


class CombinedLogger(AbstractAccessLogger):
    """The combined log format with the request time in s appended, as `$request_time` in nginx."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Writes one line; `time` in s."""
        begun = datetime.now().astimezone() - timedelta(seconds=time)
        line = f"{request.method} {request.raw_path} HTTP/{request.version.major}.{request.version.minor}"
        referer, agent = (printable(request.headers.get(name, "-")) for name in ("Referer", "User-Agent"))
        self.logger.info(
            '%s - - [%s] "%s" %d %d "%s" "%s" %.3f', request.remote or "-", begun.strftime("%d/%b/%Y:%H:%M:%S %z"),
            printable(line), response.status, response.body_length, referer, agent, time,
        )


def _handler(path: Path, line: str) -> logging.Handler:
    handler = logging.handlers.WatchedFileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter(line))
    return handler


def _escaped(match: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))
