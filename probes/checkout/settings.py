"""[[probe]] kind = "checkout": which flow a browser walks, how far, and what it may reach; and [browser], which all of them share."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from probes.checkout.cards import refused_in
from probes.checkout.cleanup import CleanupSettings
from probes.checkout.devices import check
from probes.checkout.findings import Kind
from probes.checkout.job import OFFERED
from probes.checkout.steps import DeclaredStep, unknown_names
from probes.fields import ConfigPath, Duration, Named, SecretField, Several, Size, Table

DAY = 86_400.0
_SPARE = 1.25              # of the runs that the interval makes a day: rechecks, and runs by hand
_HOST = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9._-]{0,250}[a-z0-9_])?|[0-9a-f:.]*:[0-9a-f:.]*")
_NUMBER = re.compile(r"[0-9.]+|.*:.*|localhost")     # with nothing below it
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,31}")


def _address(text: str) -> str:
    parts = urlsplit(text)
    if text and (parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\s\x00-\x1f\x7f]", text)):
        raise ValueError("write the whole address, beginning with https:// or http://")
    if "@" in parts.netloc:
        raise ValueError("a password in the address would show up everywhere; type it in the flow, out of secrets")
    return text


def _host(text: str) -> str:
    if not _HOST.fullmatch(text.lower()):
        raise ValueError(f'"{text}" is no host name; write it like "shop.example" or "*.psp.example", without https:// and port')
    return text.lower()


def _key(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f'"{name}" cannot be a name here: small letters, digits and _')
    return name


def _harmless(text: str) -> str:
    if refused := refused_in(text):
        raise ValueError(f"{', '.join(refused)} is no known test card: a probe never uses a real one")
    return text


Address = Annotated[str, AfterValidator(_address)]
Host = Annotated[str, AfterValidator(_host)]
Key = Annotated[str, AfterValidator(_key)]
Text = Annotated[str, AfterValidator(_harmless)]
Device = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(check)]


class BrowserSettings(Table):
    """[browser]: the browser that all checkout probes share."""

    executable_path: str = Field(default="", description="the browser's program; without it one is looked for")
    channel: str = Field(default="", description="a branded browser as Playwright calls it, such as chrome")
    no_sandbox: bool = Field(default=False, description="run it without its own sandbox: only where the machine holds nothing else")
    socket: ConfigPath | None = Field(default=None, description="where `tillwatch browser` serves, if the daemon is not to start the browser")
    max_runs: int = Field(default=50, ge=1, le=1000, description="runs after which browser and driver are started anew")
    max_age: Duration = Field(default=1800.0, ge=10, description="time after which they are")
    max_memory: Size = Field(default=600_000_000, ge=200_000_000, description="memory with which they are")
    min_free_memory: Size = Field(default=700_000_000, description="with less free memory no run is begun")
    artifacts: Size = Field(default=500_000_000, ge=1_000_000, description="screenshots and other evidence together; the oldest go first")
    artifacts_for: Duration = Field(default=14 * DAY, ge=3600, description="how long they are kept")


class CheckoutSettings(Named):
    """What `kind = "checkout"` adds to a [[probe]]."""

    url: Address = Field(default="", description="paths of the flow are below it; without it the shop's url")
    browser: Literal["chromium", "firefox", "webkit"] = Field(default="chromium", description="the engine")
    devices: Several[Device] = Field(
        default=(), description="Playwright's names, run one after the other, each a labelled series; without it a plain window")
    profile: Literal["clean", "returning"] = Field(
        default="clean", description='"returning" brings the storage of an earlier visit: cached files and service workers of the release before')
    flow: ConfigPath | None = Field(default=None, description="a file with `async def checkout(flow)`")
    step: Several[DeclaredStep] = Field(default=(), description="the flow's steps, in place of a file")
    stop_before: str = Field(default="payment", description='the step that is not entered; "" places the order')
    step_timeout: Duration = Field(default=15.0, ge=0.1, description="an action or assertion of the flow fails after this")
    hosts: Several[Host] = Field(default=(), description="all that the browser can reach; without it the host of url")
    max_runs_per_day: int | None = Field(default=None, ge=1, description="more are not made; without it what interval and recheck make of a day")
    variables: Mapping[Key, Text] = Field(default={}, description="what the flow reads as flow.vars; {run} in a value is another for each run")
    secrets: Mapping[Key, SecretField] = Field(default={}, description="what the flow reads with flow.secret")
    fail_on: Several[Kind] = Field(default=(), description="findings that fail a run though its steps came out")
    trace: Literal["off", "failure", "on"] = Field(default="off", description="Playwright's trace of a run as evidence")
    cleanup: CleanupSettings | None = Field(default=None, description="how orders that were placed are cancelled")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if bool(self.step) == (self.flow is not None):
            raise ValueError("give either flow, a file, or [[probe.step]] tables: what the browser does")
        if len(set(self.devices)) < len(self.devices):
            raise ValueError("devices: each only once")
        names = [step.name for step in self.step]
        if self.step and self.stop_before and self.stop_before not in names:
            raise ValueError(f'stop_before = "{self.stop_before}" is no step of this flow: name the one before which it stops, or "" to place orders')
        if wrong := unknown_names(self.step, {*OFFERED, *self.variables}, self.secrets):
            raise ValueError(wrong[0])
        if "step_timeout" in self.model_fields_set and self.step_timeout > self.timeout:
            raise ValueError("step_timeout must not be longer than timeout, or it is never reached")
        return self

    @model_validator(mode="after")
    def _capped(self) -> Self:
        interval = getattr(self, "interval", math.inf)
        due = math.ceil(DAY / interval) * max(1, len(self.devices))
        if self.max_runs_per_day is not None and self.max_runs_per_day < due:
            raise ValueError(f"max_runs_per_day = {self.max_runs_per_day} is less than the {due} runs that interval and devices make a day")
        return self

    @property
    def patience(self) -> float:
        """What one action of the flow may take, in s."""
        return min(self.step_timeout, self.timeout)

    @property
    def places_orders(self) -> bool:
        """Whether the flow goes on beyond payment."""
        return not self.stop_before

    @property
    def cap(self) -> int:
        """Runs a day that are made at most, all devices together. A shop that is down all day, and is looked at again soon, does not reach it."""
        interval, recheck = getattr(self, "interval", 75.0), math.inf if self.places_orders else getattr(self, "recheck", 10.0)
        return self.max_runs_per_day or math.ceil(_SPARE * DAY / interval + DAY / recheck) * max(1, len(self.devices))

    @property
    def again(self) -> float:
        """Seconds until a run that failed may be repeated: so many that a day of failures stays within `cap`. Infinite for what places orders."""
        spare = self.cap / max(1, len(self.devices)) - DAY / getattr(self, "interval", 75.0)
        soonest = max(getattr(self, "recheck", 10.0), DAY / spare) if spare > 0 else math.inf
        return math.inf if self.places_orders else soonest

    @property
    def reachable(self) -> tuple[str, ...]:
        """The hosts that the browser can reach. Unless they are named: the shop's, and all below it."""
        host = urlsplit(self.url).hostname or ""
        bare = host.removeprefix("www.")
        return self.hosts or ((host,) if _NUMBER.fullmatch(host) else (host, bare, f"*.{bare}"))
