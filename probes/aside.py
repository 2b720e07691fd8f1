"""Work that may hang, such as reading from a file server that is gone."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


def aside(work: Callable[[], T], name: str) -> asyncio.Future[T]:
    """The result of `work`, done in a thread of its own.

    While it hangs it takes no place in a pool from others, and it does not hold the end of the program up. Who no longer waits does
    not end it.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(error: BaseException | None, found: T | None) -> None:
        if done.done():
            return
        if error:
            done.set_exception(error)
        else:
            done.set_result(found)  # type: ignore[arg-type]

    def run() -> None:
        error, found = None, None
        try:
            found = work()
        except BaseException as raised:  # noqa: BLE001 - it flies on where the result is waited for
            error = raised
        with suppress(RuntimeError):                     # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, error, found)
    threading.Thread(target=run, name=name, daemon=True).start()
    return done
