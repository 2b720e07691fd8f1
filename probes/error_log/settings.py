"""[[probe]] kind = "error_log": which logs are followed, and what in them is an error."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from probes.error_log.engine import compiled
from probes.error_log.event import Level
from probes.error_log.formats import FORMATS
from probes.error_log.journal import JournalSettings
from probes.fields import ConfigPath, Duration, Named, Several, Table


def _pattern(text: str) -> str:
    found = compiled(text)
    if text and found.search(b""):
        raise ValueError("it matches the empty text, so every line would be an error")
    return text


if TYPE_CHECKING:
    Format = str
else:
    Format = Literal[("auto", *FORMATS)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Count = Annotated[int, Field(ge=0)]


class MaxEvents(Table):
    """max_events = { ... }: a run with more of them fails."""

    critical: Count | None = Field(default=None, description="critical errors in one run")
    error: Count | None = Field(default=None, description="errors in one run")
    warning: Count | None = Field(default=None, description="warnings in one run")


class JsonKeys(Table):
    """json_keys = { ... }: what the fields of JSON lines are called, where they are not called as usual. Nested ones with dots."""

    level: str = Field(default="", description="how bad it is: a word, or a number as syslog, pino or bunyan count")
    message: str = Field(default="", description="what happened")
    exception: str = Field(default="", description="the stack trace")


class ErrorLogSettings(Named):
    """What `kind = "error_log"` adds to a [[probe]]."""

    paths: Several[ConfigPath] = Field(default=(), description="files to follow; * ? [ ] and ** stand for what they do in a shell")
    journal: JournalSettings | None = Field(default=None, description="what to follow of systemd's journal, in place of files")
    format: Format = Field(default="auto", description='how lines are written; "auto" looks at each file')
    pattern: Pattern = Field(default="", description="re2: a line that it matches is an error, whatever the format would say")
    start_pattern: Pattern = Field(default="", description="re2: how the first line of an event looks; the lines until the next one belong to it")
    level: Level = Field(default="warning", description="the least that is counted")
    begin: Literal["end", "beginning"] = Field(
        default="end", description="where files that are there at the very first start are read from; later ones always from their beginning")
    json_keys: JsonKeys = Field(default=JsonKeys(), description="what the fields of JSON lines are called")
    groups: Mapping[str, Several[str]] | None = Field(
        default=None, description="access logs: groups of paths that are judged apart; * stands for anything")
    slow: Duration = Field(default=2.0, ge=0.1, description="access logs: a request that took longer is slow")
    max_events: MaxEvents = Field(default=MaxEvents(), description="a run with more events than this fails; without it no run does")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.paths) == (self.journal is not None):
            raise ValueError("give either paths or journal: what is to be followed")
        if self.start_pattern and not self.pattern:
            raise ValueError("start_pattern needs pattern: a format knows how its events begin")
        if "json_keys" in self.model_fields_set and (self.format not in {"auto", "json"} or self.pattern):
            raise ValueError('json_keys are for format = "json" or "auto", without a pattern')
        return self
