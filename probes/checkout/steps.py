"""[[probe.step]]: a flow without a program. Each step has a name and what is done in it, in this order. What runs them is walk.py."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Self

import re2
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from probes.checkout.targets import check_pattern, parse
from probes.fields import Duration, Several, Table
from probes.patterns import compiled

LONGEST_PAUSE = 30.0       # s
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False             # a bad pattern is told to its author, not to stderr
_NAME = re.compile(r"\{(secret\.)?([a-z_][a-z0-9_]{0,31})\}")
_MODIFIERS: dict[str, tuple[str, ...]] = {     # action -> what may stand beside it
    "goto": (), "click": ("optional", "within"), "fill": (), "type": (), "check": (), "uncheck": (), "select": (), "press": (),
    "see": ("within",), "see_not": ("within",), "enabled": ("within",), "count": ("min", "max", "within"), "url": ("within",), "title": ("within",),
    "capture": ("as", "pattern", "within"), "order": ("pattern", "within"), "click_and_wait": ("path", "status", "within"),
    "submit": ("path", "status", "within"), "dialog": (), "scroll": (), "pause": (), "eval": ("as",),
}
ACTIONS = tuple(_MODIFIERS)
ASSERTIONS = frozenset({"see", "see_not", "enabled", "count", "url", "title", "capture", "order", "click_and_wait"})
_TAKES_SECRETS = ("fill", "type")


def _target(text: str) -> str:
    parse(text)
    return text


def _scroll(text: str) -> str:
    return text if text in {"top", "bottom"} else _target(text)


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _place(text: str) -> str:
    if not re.match(r"/(?!/)|https?://[^/]", text) or re.search(r"[\s\x00-\x1f]", text):
        raise ValueError('write a path such as "/product/sencha", or a whole address')
    return text


def _glob(text: str) -> str:
    if not re.match(r"/|\*|https?://", text):
        raise ValueError('write a path such as "/checkout" or "/order/*"; * stands for anything')
    return text


def _title(text: str) -> str:
    if pattern := re.fullmatch(r"/(.+)/i?", text):
        check_pattern(pattern[1])
    return text


def _pattern(text: str) -> str:
    if compiled(text, _OPTIONS).groups > 1:
        raise ValueError("put only one part of the pattern in (...): that is what is kept; write (?:...) for the others")
    return text


def _pause(seconds: float) -> float:
    if seconds > LONGEST_PAUSE:
        raise ValueError(f'at most "{LONGEST_PAUSE:g}s": it is always waited for so long; wait for what you are waiting for with see')
    return seconds


TargetText = Annotated[str, Field(min_length=1), AfterValidator(_target)]
_ONE_OR_MORE = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
Scroll = Annotated[str, Field(min_length=1), AfterValidator(_scroll)]
Targets = Annotated[tuple[TargetText, ...], BeforeValidator(_one_or_more), Field(min_length=1, strict=False), WithJsonSchema(_ONE_OR_MORE)]
Fields = Annotated[Mapping[TargetText, str], Field(min_length=1)]
Place = Annotated[str, AfterValidator(_place)]
Glob = Annotated[str, AfterValidator(_glob)]
Title = Annotated[str, Field(min_length=1), AfterValidator(_title)]
Pattern = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_pattern)]
Pause = Annotated[Duration, AfterValidator(_pause)]
VariableName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,31}$")]


class Action(Table):
    """One thing that is done or looked for. Each has one key that says what, and perhaps some that say how."""

    goto: Place | None = Field(default=None, description="open this path of the shop, and wait until it is loaded")
    click: TargetText | None = Field(default=None, description="click it, as soon as it can be")
    fill: Fields | None = Field(default=None, description="form fields and what goes into them, in this order")
    type: Fields | None = Field(default=None, description="as fill, but key by key: for fields that react to each")
    check: Targets | None = Field(default=None, description="tick these boxes, or choose these radio buttons")
    uncheck: Targets | None = Field(default=None, description="take the tick out of these boxes")
    select: Fields | None = Field(default=None, description="lists and the option that is chosen in them, by its text or value")
    press: str | Fields | None = Field(default=None, description='a key such as "Enter", or a field and the key that is pressed in it')
    see: Targets | None = Field(default=None, description="all these must become visible")
    see_not: Targets | None = Field(default=None, description="none of these may be visible, or must vanish")
    enabled: Targets | None = Field(default=None, description="all these must become usable")
    count: TargetText | None = Field(default=None, description="so many of these must become visible: see min and max")
    url: Glob | None = Field(default=None, description="the page's path must become this; * stands for anything")
    title: Title | None = Field(default=None, description='the page\'s title must hold this; "..." is all of it, /.../ a pattern')
    capture: TargetText | None = Field(default=None, description="keep its text as the variable that `as` names")
    order: TargetText | None = Field(default=None, description="its text is the number of the order that was placed")
    click_and_wait: TargetText | None = Field(default=None, description="click it, and wait until the request to `path` is answered")
    submit: TargetText | None = Field(default=None, description="click what places the order, if this run may: once a run")
    dialog: Literal["accept", "dismiss"] | None = Field(default=None, description="how the next dialog is answered; before the click that opens it")
    scroll: Scroll | None = Field(default=None, description="scroll it into view")
    pause: Pause | None = Field(default=None, description="wait so long; better wait for something")
    eval: str | None = Field(default=None, min_length=1, description="run this JavaScript in the page; a function gets the variables")

    optional: bool = Field(default=False, description="click: go on when it does not show up, as a cookie banner")
    within: Duration | None = Field(default=None, ge=0.1, description="how long it is waited for; else step_timeout, 2s when optional")
    min: int | None = Field(default=None, ge=0, description="count: at least so many; 1 without min and max")
    max: int | None = Field(default=None, ge=0, le=10_000, description="count: at most so many")
    into: VariableName | None = Field(default=None, alias="as", description="capture, eval: the variable")
    pattern: Pattern | None = Field(default=None, description="capture, order: what of the text is kept: its part in (...), or all that matches")
    path: Glob | None = Field(default=None, description="click_and_wait, submit: the request's path; * stands for anything")
    status: int | None = Field(default=None, ge=100, le=599, description="click_and_wait, submit: how it must be answered; else anything below 400")

    @property
    def verb(self) -> str:
        """Which action it is."""
        return next(name for name in ACTIONS if getattr(self, name) is not None)

    @property
    def value(self) -> Any:
        """What stands behind the verb."""
        return getattr(self, self.verb)

    @model_validator(mode="after")
    def _one_action(self) -> Self:
        said = [name for name in ACTIONS if getattr(self, name) is not None]
        if len(said) != 1:
            raise ValueError(f"one action in each {{ }}, not {' and '.join(said)}" if said else f"says nothing to do: one of {', '.join(ACTIONS)}")
        beside = {"as" if name == "into" else name for name in self.model_fields_set - {*ACTIONS}}
        if wrong := beside - {*_MODIFIERS[said[0]]}:
            fitting = f"; {said[0]} has {', '.join(_MODIFIERS[said[0]])}" if _MODIFIERS[said[0]] else ""
            raise ValueError(f'"{min(wrong)}" cannot stand beside "{said[0]}"{fitting}')
        return self

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.capture and not self.into:
            raise ValueError('capture needs as = "NAME": the variable that keeps the text')
        if self.click_and_wait and not self.path:
            raise ValueError("click_and_wait needs path: the request that the click makes")
        if self.status and not self.path:
            raise ValueError("status needs path: the request whose answer is meant")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is more than max")
        secret = [name for name, is_secret in self.names() if is_secret]
        if secret and self.verb not in _TAKES_SECRETS:
            raise ValueError(f"{{secret.{secret[0]}}} can only be typed into a field, with fill or type")
        return self

    def names(self) -> Iterator[tuple[str, bool]]:
        """The variables that it names as {name}, and whether each is a secret."""
        if self.verb == "eval":
            return
        texts = [self.path or ""]
        if isinstance(self.value, Mapping):
            texts += [*self.value.keys(), *self.value.values()]
        else:
            texts += [self.value] if isinstance(self.value, str) else self.value if isinstance(self.value, tuple) else []
        for text in texts:
            yield from ((found[2], bool(found[1])) for found in _NAME.finditer(text))


class DeclaredStep(Table):
    """One step of a declared flow."""

    name: str = Field(min_length=1, max_length=64, description="how metrics and messages call the step")
    submits: bool = Field(default=False, description="the step places the order: it is asked first whether this run may")
    do: Several[Action] = Field(min_length=1, max_length=100, description="what is done and looked for, in this order")

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not self.name.isprintable():
            raise ValueError("name holds a character that cannot stand here")
        return self


def insert(text: str, variables: Mapping[str, str], secret: Mapping[str, str] | None = None) -> str:
    """The text with {name} and {secret.name} replaced. Raises KeyError with the name of one that is not there."""
    def value(found: re.Match[str]) -> str:
        return (secret or {})[found[2]] if found[1] else variables[found[2]]
    return _NAME.sub(value, text)


def unknown_names(steps: Iterable[DeclaredStep], variables: Iterable[str], secrets: Iterable[str]) -> list[str]:
    """What is wrong with the names that the steps use, one sentence each: of no variable, of no secret, or captured only later."""
    known, hidden, wrong = set(variables), set(secrets), []
    for step in steps:
        for action in step.do:
            for name, is_secret in action.names():
                if is_secret and name not in hidden:
                    wrong.append(f'step "{step.name}": there is no secret "{name}"; add it to the probe\'s secrets')
                elif not is_secret and name not in known:
                    wrong.append(f'step "{step.name}": there is no variable "{name}"; add it to the probe\'s variables, or capture it before')
            known |= {action.into} if action.into else set()
    return list(dict.fromkeys(wrong))
