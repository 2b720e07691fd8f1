"""What can be meant, and is probably a mistake: a configuration with it is taken, and `check-config` says it."""

from collections.abc import Iterator
from contextlib import suppress

from monitor import tls_files
from monitor.settings import Config, Probe, secrets
from monitor.witnesses import near, witnesses
from probes.checkout.cards import refused_in
from probes.checkout.inspection import inspect, step_names
from probes.fields import SecretError

_MOST = 5                # remarks on one flow; `flow check` has them all


def warnings(config: Config) -> Iterator[str]:
    """A sentence for each."""
    yield from unreadable(config)
    yield from unheard(config)
    yield from unnoticed(config)
    yield from unwitnessed(config)
    yield from missing(config)
    yield from flows(config)


def unwitnessed(config: Config) -> Iterator[str]:
    """A lost network of our own would look like an outage of the shop; or an outage that takes the only witness along, like one."""
    known = len(witnesses(config))
    if known > 1 or len(near(config)) == len(config.probe):
        return
    if known:
        yield ("daemon.uplink: only one address beside the shop can tell whether this monitor itself has lost its network: when it goes down "
               'together with the shop, nobody may be told. Set uplink = ["1.1.1.1:53", "9.9.9.9:53"]')
    else:
        yield ("daemon.uplink: no address beside the shop can tell whether this monitor itself has lost its network, which will look like "
               'an outage of the shop: set uplink = ["1.1.1.1:53", "9.9.9.9:53"]')


def missing(config: Config) -> Iterator[str]:
    """Certificates and keys that cannot be read here."""
    for table in ("probe", "receiver"):
        items = getattr(config, table)
        for (_, index, *keys), error in tls_files.faults(table, items):
            yield f'{table} "{items[index].name}": {".".join(map(str, keys))}: {tls_files.why(error)}'


def flows(config: Config) -> Iterator[str]:
    """Checkouts that could not be made, would not stop where they are to, or could not say what is wrong."""
    for probe in config.probe:
        if probe.kind == "checkout":
            for told in (*_flow(probe), *_cards(probe), *_hurry(probe)):
                yield f'probe "{probe.name}": {told}'


def _flow(probe: Probe) -> Iterator[str]:
    """Of a file: what is wrong with it, without running it. Declared steps were looked at when the configuration was read."""
    path, stop = getattr(probe, "flow", None), getattr(probe, "stop_before", "")
    if path is None:
        return
    try:
        source = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        yield f"flow: {path} cannot be read: {getattr(error, 'strerror', None) or 'not a Python file'}"
        return
    names = step_names(source)
    if names and stop and stop not in names:
        yield f'stop_before: no step of {path.name} is called "{stop}", so every run will be refused'
    wrong = [remark for remark in inspect(source, stop) if remark.level == "error" and not remark.text.startswith("stop_before")]
    yield from (f"flow: {path.name}:{remark.line}: {remark.text}" for remark in wrong[:_MOST])
    if wrong[_MOST:]:
        yield f"flow: {len(wrong) - _MOST} more: tillwatch flow check {path}"


def _cards(probe: Probe) -> Iterator[str]:
    """Secrets with which every run will be refused."""
    for name, secret in getattr(probe, "secrets", {}).items():
        with suppress(SecretError):
            for number in refused_in(secret.reveal()):
                yield f"secrets.{name}: {number} is no known test card, so every run will be refused"


def _hurry(probe: Probe) -> Iterator[str]:
    """One step may take all the time that there is: what it waited for in vain is then not told."""
    step = getattr(probe, "step_timeout", 0.0)
    if probe.timeout <= step:
        yield (f"timeout: {probe.timeout:g} s for the whole flow, and one step may wait {step:g} s (step_timeout): what it waits for in vain will be "
               'told as a time-out, without its name. A checkout mostly wants timeout = "60s" of its own, whatever [defaults] says')


def unreadable(config: Config) -> Iterator[str]:
    """Secrets that are not on this machine."""
    for where, secret in secrets(config):
        try:
            secret.reveal()
        except SecretError as error:
            yield f"{where}: {error}"


def unnoticed(config: Config) -> Iterator[str]:
    """Faults of ours that nobody is told of."""
    if config.receiver and not any("monitor_fault" in receiver.on for receiver in config.receiver):
        yield 'no receiver has "monitor_fault" in its `on`: nobody is told of probes that cannot be measured'


def unheard(config: Config) -> Iterator[str]:
    """Alarms that nobody is told of."""
    if not config.receiver:
        yield "there is no [[receiver]]: nobody is told of anything"
        return
    for kind, words in (("outage", "an outage"), ("regression", "a regression")):
        if not any(kind in receiver.on for receiver in config.receiver):
            yield f'no receiver has "{kind}" in its `on`: nobody is told of {words}'
