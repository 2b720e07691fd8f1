"""How long an update will be observed before it can pass: what `check-config` prints."""

import math
from collections.abc import Sequence
from random import Random

from monitor.before import MOST_OBSERVED
from monitor.clock import span
from monitor.config import Config
from monitor.judge.baseline import NEWEST, Baseline, freeze
from monitor.judge.signals import Run
from monitor.judge.verdict import Case
from monitor.targets import fast_spacing, judged, watches

SPREAD = 0.2          # of the logarithm of durations: a usual page
MOST_SHOWN = 10       # required probes that are worked through


def sentence(config: Config) -> str:
    """The expected observation in words, for required probes with a clean past of usual spread."""
    baselines = _clean_pasts(config)
    ruling = Case(baselines, config.update, share=0.5, watch=config.update.observe_limit).ruling(final=True)
    spacings = {baseline.subject.probe: baseline.spacing for baseline in baselines}
    required = [row for row in ruling.signals if row.required]
    lacking = next((row.probe for row in required if row.needed is None), None)
    if lacking:
        return (f"update: a pass may be out of reach within {span(config.update.observe_limit)}: {lacking} runs every "
                f"{span(spacings[lacking])}; a wider margin.success or a shorter interval helps")
    seconds = max(((row.needed or 0) * spacings[row.probe] for row in required), default=0.0)
    return f"update: a pass takes about {span(seconds)} after finish and warm-up, at most {span(config.update.observe_limit)}, when the past is clean"


def _clean_pasts(config: Config) -> Sequence[Baseline]:
    """Made-up pasts without a failure, for the probes that a pass asks for."""
    factor = config.update.interval_factor if config.update.bursts_per_day else 1.0
    required = [p for p in config.probe if p.critical] or [p for p in config.probe if not p.control]
    pasts = []
    for probe in required[:MOST_SHOWN]:
        random, spacing = Random(probe.name), fast_spacing(probe, factor)  # noqa: S311 - made-up durations
        subject = judged(watches(probe)[0], probe, config.update).subject
        runs = [Run(at=n * spacing, ok=True, seconds=random.lognormvariate(-2, SPREAD), spacing=spacing) for n in range(NEWEST)]
        pasts.append(freeze(subject, runs, spacing=spacing, horizon=min(math.ceil(config.update.observe_limit / spacing), MOST_OBSERVED)))
    return pasts
