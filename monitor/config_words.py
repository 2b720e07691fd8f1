"""What is wrong with a configuration, in the words of a person: pydantic's errors speak to programmers."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from probes.fields import parse_duration, show_duration
from probes.scrub import scrub

Location = tuple[str | int, ...]

_NOUNS = {
    "string_type": "a string", "int_type": "a whole number", "int_parsing": "a whole number", "float_type": "a number", "float_parsing": "a number",
    "bool_type": "true or false", "tuple_type": "an array", "list_type": "an array", "dict_type": "a table", "mapping_type": "a table",
    "model_type": "a table", "model_attributes_type": "a table",
}
_EMPTY = {"string_too_short", "too_short"}
_BOUNDS = {"greater_than_equal": "at least", "greater_than": "more than", "less_than_equal": "at most", "less_than": "less than"}
_PATTERNS = {     # how the pattern begins -> what to write
    "^https?://": "write the whole address, beginning with https:// or http://, and no password in it",
    "^(https?://": "write the whole address, beginning with https:// or http://, and no password in it",
    "^[A-Z]{3}$": 'write the three capital letters of the currency, such as "EUR"',
}
_PLACES = 'write it as { env = "NAME" }, { file = "path" } or { credential = "name" }'


def problems(errors: Iterable[Any], model: type[BaseModel], raw: Any) -> Iterator[tuple[Location, str]]:
    """(where, what) of each error, as `ValidationError.errors()` gives them; the branches of a union are one problem."""
    alike: dict[Location, list[Any]] = {}
    for details in errors:
        location = _written(raw, tuple(details["loc"]))
        if details["type"] != "too_short" or not _at(raw, location):         # pydantic takes an array whose items are wrong for empty
            alike.setdefault(location, []).append(details)
    for location, branches in alike.items():
        value = _at(raw, location)
        yield location, _one(branches[0], model, location, value) if len(branches) == 1 else _any(branches, value)


def _written(raw: Any, location: Location) -> Location:
    """The part of pydantic's location that is a key path: behind it stand the names of a union's branches."""
    for depth, part in enumerate(location):
        if isinstance(raw, dict):
            if part not in raw:
                return location
            raw = raw[part]
        elif isinstance(raw, list) and isinstance(part, int):
            raw = raw[part]
        else:
            return location[:depth]
    return location


def _at(raw: Any, location: Location) -> Any:
    for part in location:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            return None
    return raw


def _one(details: Any, model: type[BaseModel], location: Location, value: Any) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        return "unknown key" + _meant(str(location[-1]), _model_at(model, location[:-1]))
    if kind == "literal_error":
        known = _choices(context)
        return f"must be one of {quoted(known)}, not {shown(value)}" + did_you_mean(str(value), known)
    if kind == "value_error":
        return str(context["error"])
    if kind in _EMPTY:
        return "must not be empty"
    return _of_a_value(details, context, value)


def _of_a_value(details: Any, context: Mapping[str, Any], value: Any) -> str:
    kind, not_this = details["type"], f", not {shown(value)}"
    if context.get("class_name") == "Secret":
        return _PLACES + ("" if isinstance(value, int | float | str) and not isinstance(value, bool) else not_this)    # it may be the secret
    if kind in _NOUNS:
        if _NOUNS[kind] == "a table" and isinstance(value, str):
            not_this = ", not a string"                          # such as a login in one string
        return f"must be {_NOUNS[kind]}{not_this}"
    if kind in _BOUNDS:
        return f"must be {_BOUNDS[kind]} {_limit(next(iter(context.values())), value)}{not_this}"
    if kind == "string_too_long":
        return f"must not be longer than {context['max_length']} characters"
    if kind == "string_pattern_mismatch":
        what = (words for start, words in _PATTERNS.items() if context["pattern"].startswith(start))
        return next(what, "holds a character that cannot stand here") + not_this
    return str(details["msg"]).removeprefix("Input ") + not_this


def _limit(limit: float, value: Any) -> str:
    """A bound, written as the value is: a duration, a size or a number."""
    if not isinstance(value, str):
        return f"{limit:g}"
    try:
        parse_duration(value)
    except ValueError:
        return f'"{limit / 1e6:g}MB"' if limit >= 1e6 else f'"{limit:g}B"'
    return f'"{show_duration(limit)}"'


def _any(branches: list[Any], value: Any) -> str:
    """No branch of a union fits."""
    nouns = dict.fromkeys(_NOUNS[b["type"]] for b in branches if b["type"] in _NOUNS)
    said = [str(b["ctx"]["error"]) for b in branches if b["type"] == "value_error"]
    said += [quoted(_choices(b["ctx"])) for b in branches if b["type"] == "literal_error"]
    said += [f"must be {', or '.join(nouns)}"] if nouns else []
    return ", or ".join(said) + f", not {shown(value)}"


def _choices(context: Mapping[str, Any]) -> list[str]:
    return re.findall(r"'([^']*)'", context["expected"])


def shown(value: object) -> str:
    """A value of the configuration as it was written, in short."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{scrub(value, limit=60)}"'
    return "a table" if isinstance(value, dict) else "an array" if isinstance(value, list) else str(value)


def keys(model: type[BaseModel]) -> dict[str, Any]:
    """Key as it is written -> field."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def models(field: Any) -> list[type[BaseModel]]:
    """The tables that a field may hold."""
    return [t for t in types(field.annotation) if isinstance(t, type) and issubclass(t, BaseModel)]


def types(annotation: Any) -> Iterator[Any]:
    """An annotation and all that it is made of."""
    yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from types(argument)


def _model_at(model: type[BaseModel], location: Location) -> type[BaseModel] | None:
    for part in location:
        if isinstance(part, int):
            continue
        field = keys(model).get(part)
        nested = models(field) if field else []
        if not nested:
            return None
        model = nested[0]
    return model


def _meant(key: str, model: type[BaseModel] | None) -> str:
    """A key with nearly this name, or one with just this name that belongs a level deeper."""
    if model is None:
        return ""
    deeper = [f"{name}.{key}" for name, field in keys(model).items() if any(key in keys(inner) for inner in models(field))]
    return f'; did you mean "{deeper[0]}"?' if deeper else did_you_mean(key, keys(model))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The known name that is nearest, as the end of a sentence."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""


def quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def counted(number: int, noun: str) -> str:
    """Such as "1 probe" and "2 probes"."""
    return f"{number} {noun}{'s' * (number != 1)}"


_TOML = {
    "Illegal character '\\n'": "a quotation mark is missing at the end of this line",
    "Cannot overwrite a value": "this key is written a second time",
    "Invalid value": "there is no value here; text needs quotation marks",
    "Expected newline or end of document after a statement": "something follows the value; text needs quotation marks",
}


def of_toml(message: str) -> str:
    """The parser's message for people, without Python's tuples: ('shop', 'name') -> shop.name."""
    return _TOML.get(message) or re.sub(r"\((?:'[^']*'(?:, )?,?)+\)", lambda found: ".".join(re.findall(r"'([^']*)'", found[0])), message)
