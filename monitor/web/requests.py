"""What a request says, checked: its JSON as a model, its numbers within bounds. Bad input is answered with every problem at once."""

import json
import re
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from monitor import config_words
from monitor.web.problems import ProblemError

M = TypeVar("M", bound=BaseModel)


async def body(request: web.Request, model: type[M]) -> M:
    """The request's JSON as `model`; an empty body is an empty document. Raises ProblemError."""
    try:
        raw = json.loads(await request.text() or "{}")
    except (ValueError, LookupError, RecursionError):        # no JSON, no such charset, too many digits or brackets
        raise ProblemError(400, "the body is not JSON") from None
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        found = config_words.problems(error.errors(include_url=False), model, raw)
        problems = [{"path": ".".join(map(str, where)), "message": message} for where, message in found]
        raise ProblemError(400, "; ".join(f"{p['path']}: {p['message']}" for p in problems), problems=problems) from None


def number(request: web.Request, name: str, default: int, most: int) -> int:
    """A whole number from 1 to `most` in the query. Raises ProblemError."""
    text = request.query.get(name, str(default))
    if not re.fullmatch("[0-9]{1,9}", text) or not 1 <= int(text) <= most:
        raise ProblemError(400, f"{name} must be a number from 1 to {most}")
    return int(text)


def moment(request: web.Request, name: str) -> float:
    """A time in the query, in Unix s; 0 when it is left out. Raises ProblemError."""
    text = request.query.get(name, "0")
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text):
        raise ProblemError(400, f"{name} must be a time in Unix seconds")
    return float(text)
