"""The logs that are to be followed: can this user read them?"""

from collections.abc import AsyncIterator

from monitor.config import Config
from monitor.doctor.finding import Finding
from monitor.doctor.network import Reach
from probes.clients import Clients
from probes.sample import Outcome
from probes.table import PROBES


async def logs(config: Config, _reach: Reach) -> AsyncIterator[Finding]:
    """Each error_log probe is run once, without a checkpoint: it reads nothing but looks at everything."""
    for probe in config.probe:
        if probe.kind != "error_log":
            continue
        async with Clients() as clients:
            name, sample = f'log "{probe.name}"', await PROBES[probe.kind].probe(probe, clients, None)
        if sample.outcome is Outcome.BROKEN or sample.facts.get("log_problems"):
            denied = "denied" in sample.evidence or "permission" in sample.evidence
            yield Finding(name, "fault", sample.evidence, "let this user read it: setfacl -m u:USER:r FILE, or group adm or systemd-journal" if denied
                          else "look at `paths` or `journal` of the probe, and at the machine's storage")
        elif sample.facts.get("log_files") == 0:
            yield Finding(name, "warning", "no file is there yet", "right for a log that is made with its first error; else look at `paths`")
        elif "journal is empty" in sample.evidence:
            yield Finding(name, "warning", sample.evidence, "is systemd-journald running, and does it keep a journal? journalctl -n 1")
        else:
            yield Finding(name, "ok", "can be read")
