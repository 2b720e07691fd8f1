"""A program of one's own: it is handed the page as JSON, and its exit code says whether the page is delivered."""

import asyncio
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from aiohttp import ClientSession
from pydantic import AfterValidator, Field

from monitor.alerts.delivery import TIMEOUT, Delivered, DeliveryError, Message, ReceiverSettings
from monitor.alerts.document import body, kind
from probes import child
from probes.fields import Several
from probes.scrub import scrub

# EX_USAGE, EX_DATAERR, EX_NOPERM, EX_CONFIG of sysexits.h: the same again would end the same. Everything else may pass,
# EX_TEMPFAIL (75) by its very name.
PERMANENT = frozenset({64, 65, 77, 78})


class CommandSettings(ReceiverSettings):
    """kind = "command" """

    hears_acks: ClassVar[bool] = True

    kind: Literal["command"]
    command: Annotated[Several[str], Field(min_length=1), AfterValidator(child.program)] = Field(
        description="the program with its whole path, and its arguments one by one; no shell reads them"
    )


async def send(settings: CommandSettings, _session: ClientSession, message: Message) -> Delivered | DeliveryError:
    """Run the program. Exit code 0 is delivered."""
    name = Path(settings.command[0]).name
    open_to = child.open_to_all(Path(settings.command[0]))
    if open_to:
        return DeliveryError(f"{name} is not run: everybody on this host can write to {open_to}", code="unsafe")
    try:
        async with asyncio.timeout(TIMEOUT - 1):
            code, output = await child.run(settings.command, body(message), _environment(message))
    except TimeoutError:
        return DeliveryError(f"{name} did not end within {TIMEOUT - 1:.0f} s", code="timeout")
    except OSError as error:
        return DeliveryError(f"{name} could not be started: {error.strerror or type(error).__name__}", code="start")
    return _result(name, code, output)


def _result(name: str, code: int, output: bytes) -> Delivered | DeliveryError:
    lines = output.decode("utf-8", errors="replace").strip().splitlines()
    said = scrub(lines[-1], limit=200) if lines else ""
    if code == 0:
        return Delivered(said)
    ended = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
    return DeliveryError(f"{name} {ended}{f': {said}' if said else ''}", permanent=code in PERMANENT, code=f"exit {code}")


def _environment(message: Message) -> dict[str, str]:
    """With the three things that save a shell script the reading of JSON."""
    return child.environment({"TILLWATCH_ID": message.id, "TILLWATCH_TYPE": kind(message), "TILLWATCH_TITLE": message.page.title})
