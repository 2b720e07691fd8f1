"""What can be meant, and is probably a mistake: a configuration with it is taken, and `check-config` says it."""

from collections.abc import Iterator

from monitor import tls_files
from monitor.settings import Config, secrets
from monitor.witnesses import near, witnesses
from probes.checkout.inspection import step_names
from probes.fields import SecretError


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
    """Checkout flows that could not be walked, or would not stop where they are to."""
    for probe in config.probe:
        path, stop = getattr(probe, "flow", None), getattr(probe, "stop_before", "")
        if path is None:
            continue
        try:
            names = step_names(path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError, SyntaxError, ValueError) as error:
            yield f'probe "{probe.name}": flow: {path} cannot be read: {getattr(error, "strerror", None) or "not a Python file"}'
            continue
        if stop and stop not in (names or ()):
            yield f'probe "{probe.name}": stop_before: no step of {path.name} is called "{stop}", so every run will be refused'


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
