"""Who is told, and who notices when nobody is."""

import os
from collections.abc import Iterator
from pathlib import Path

from monitor.config import Config, secrets
from monitor.config_warnings import unheard, unnoticed, unreadable, unwitnessed
from monitor.config_words import counted
from monitor.doctor.finding import Finding
from monitor.settings import open_to_all


def configuration(config: Config) -> Iterator[Finding]:
    """It was taken; what it warns of and no other check says."""
    elsewhere = {*unheard(config), *unnoticed(config), *unreadable(config), *unwitnessed(config)}
    for warning in config.warnings:
        if warning not in elsewhere:
            yield Finding("configuration", "warning", warning)
    yield Finding("configuration", "ok", f"{config.path}: {counted(len(config.probe), 'probe')}, {counted(len(config.receiver), 'receiver')}")


def credentials(config: Config) -> Iterator[Finding]:
    """Can every secret be read by this user, and by nobody else?"""
    every = list(secrets(config))
    found = [Finding("secrets", "fault", text, "put it where the daemon's user can read it") for text in unreadable(config)]
    found += [Finding("secrets", "fault", f"{where}: everybody on this host can read {secret.file}", f"chmod o-r {secret.file}; change the secret")
              for where, secret in every if secret.file and open_to_all(secret.file)]
    yield from found or [Finding("secrets", "ok", f"{len(every)} can be read")]


def alarms(config: Config) -> Iterator[Finding]:
    """Is somebody told of each kind of alarm, also when a receiver is away?"""
    name, paged = "alarms", [r for r in config.receiver if {"outage", "regression"} & set(r.on)]
    for text in unheard(config):
        yield Finding(name, "fault", text, "add a [[receiver]], or the word to its `on`")
    for receiver in paged:
        if not receiver.fallback and not any(other.fallback == receiver.name for other in paged):
            yield Finding(name, "warning", f'when receiver "{receiver.name}" cannot be reached, nobody is told in its place', "name a fallback")
    for text in unnoticed(config):
        yield Finding(name, "warning", text, 'add "monitor_fault" to the `on` of one')
    if not config.heartbeat:
        yield Finding("heartbeat", "warning", "nobody notices when this machine dies", "set [heartbeat] url to a dead man's switch outside")
    if paged:
        yield Finding(name, "ok", f"{counted(len(paged), 'receiver')} {'is' if len(paged) == 1 else 'are'} told of outages and regressions")


def programs(config: Config) -> Iterator[Finding]:
    """The programs that receivers run."""
    for receiver in config.receiver:
        if command := getattr(receiver, "command", ()):
            there = Path(command[0]).is_file() and os.access(command[0], os.X_OK)
            yield Finding(f'receiver "{receiver.name}"', "ok" if there else "fault", f"{command[0]} " + ("can" if there else "cannot") + " be run",
                          "" if there else "name a program by its whole path, which the daemon's user may run")
