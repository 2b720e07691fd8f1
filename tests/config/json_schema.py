"""As much of JSON Schema 2020-12 as the schema of config.toml uses. A keyword that is not known here is an error."""

import re
from collections.abc import Iterator
from typing import Any

_TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict, "null": type(None)}
_SAYING_NOTHING = {"title", "description", "default", "examples", "$schema", "$defs", "format", "writeOnly"}


def faults(schema: dict[str, Any], value: Any, root: dict[str, Any], at: str = "") -> Iterator[str]:
    """Where and why `value` does not fit."""
    for keyword, argument in schema.items():
        if keyword not in _SAYING_NOTHING:
            yield from _CHECKS[keyword](schema, argument, value, root, at)


def is_type(name: str, value: Any) -> bool:
    return isinstance(value, _TYPES[name]) and (isinstance(value, bool) == (name == "boolean"))


def _ref(_schema, argument, value, root, at):
    target = root
    for part in argument.removeprefix("#/").split("/"):
        target = target[part]
    yield from faults(target, value, root, at)


def _type(_schema, argument, value, _root, at):
    names = [argument] if isinstance(argument, str) else argument
    if not any(is_type(name, value) for name in names):
        yield f"{at}: is not {argument}"


def _properties(_schema, argument, value, root, at):
    for name, item in value.items() if isinstance(value, dict) else ():
        if name in argument:
            yield from faults(argument[name], item, root, f"{at}.{name}")


def _additional(schema, argument, value, root, at):
    for name in (value.keys() if isinstance(value, dict) else set()) - schema.get("properties", {}).keys():
        if argument is False:
            yield f"{at}.{name}: is unknown"
        elif argument is not True:
            yield from faults(argument, value[name], root, f"{at}.{name}")


def _names(_schema, argument, value, root, at):
    for name in value if isinstance(value, dict) else ():
        yield from faults(argument, name, root, f"{at}.{name}")


def _required(_schema, argument, value, _root, at):
    yield from (f"{at}.{name}: is missing" for name in argument if isinstance(value, dict) and name not in value)


def _items(_schema, argument, value, root, at):
    for index, item in enumerate(value if isinstance(value, list) else ()):
        yield from faults(argument, item, root, f"{at}[{index}]")


def _any_of(_schema, argument, value, root, at):
    found = [list(faults(branch, value, root, at)) for branch in argument]
    if all(found):
        yield f"{at}: fits none of {len(found)}: {min(found, key=len)}"


def _one_of(_schema, argument, value, root, at):
    fits = sum(not list(faults(branch, value, root, at)) for branch in argument)
    if fits != 1:
        yield f"{at}: fits {fits} of {len(argument)}"


def _numbers(holds):
    def check(_schema, argument, value, _root, at):
        if is_type("number", value) and not holds(value, argument):
            yield f"{at}: {value} against {argument}"
    return check


def _sized(kind, holds):
    def check(_schema, argument, value, _root, at):
        if isinstance(value, kind) and not holds(len(value), argument):
            yield f"{at}: has length {len(value)}, against {argument}"
    return check


def _chosen(_schema, argument, value, _root, at):
    if value not in (argument if isinstance(argument, list) else [argument]):
        yield f"{at}: {value!r} is not {argument!r}"


def _pattern(_schema, argument, value, _root, at):
    if isinstance(value, str) and not re.search(argument, value):
        yield f"{at}: {value!r} does not match {argument}"


_CHECKS = {
    "$ref": _ref, "type": _type, "properties": _properties, "additionalProperties": _additional, "required": _required, "items": _items,
    "anyOf": _any_of, "oneOf": _one_of, "enum": _chosen, "const": _chosen, "pattern": _pattern,
    "minimum": _numbers(lambda v, a: v >= a), "maximum": _numbers(lambda v, a: v <= a),
    "exclusiveMinimum": _numbers(lambda v, a: v > a), "exclusiveMaximum": _numbers(lambda v, a: v < a),
    "minLength": _sized(str, lambda n, a: n >= a), "maxLength": _sized(str, lambda n, a: n <= a),
    "minProperties": _sized(dict, lambda n, a: n >= a), "propertyNames": _names,
    "minItems": _sized(list, lambda n, a: n >= a), "maxItems": _sized(list, lambda n, a: n <= a),
}


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema inside a schema."""
    yield schema
    for keyword in ("properties", "$defs"):
        for part in schema.get(keyword, {}).values():
            yield from parts(part)
    for keyword in ("anyOf", "oneOf"):
        for part in schema.get(keyword, ()):
            yield from parts(part)
    for keyword in ("items", "additionalProperties", "propertyNames"):
        if isinstance(schema.get(keyword), dict):
            yield from parts(schema[keyword])
