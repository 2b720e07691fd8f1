"""How often the stepped rank sum crosses its bounds when nothing changed, by simulation of exchangeable ranks.

    .venv/bin/python bench/judge/bounds.py
"""

import math

import numpy as np

from monitor.judge.latency import NATS, STEPS

SAMPLES = 240


def rank_sums(reference: int, count: int, random: np.random.Generator) -> np.ndarray:
    """z after each of SAMPLES samples in `count` simulations of a fresh reference; nothing before the fifth sample."""
    before = np.sort(random.random((count, reference)), axis=1)
    after = random.random((count, SAMPLES))
    row = 2.0 * np.arange(count)[:, None]              # rows put one behind the other: one search for all
    below = np.searchsorted((before + row).ravel(), (after + row).ravel()).reshape(count, SAMPLES)
    above = reference - (below - np.arange(count)[:, None] * reference)
    scores = 1 - 2 * (above + 0.5) / (reference + 1)
    seen = np.arange(1, SAMPLES + 1)
    z = np.cumsum(scores, axis=1) / np.sqrt(seen / 3 * (1 + seen / reference))
    z[:, :STEPS[-1][0] - 1] = -np.inf
    return z


def bounds(part: float) -> np.ndarray:
    """Bound of z after each sample, for a signal with this part of the budget."""
    seen = np.arange(1, SAMPLES + 1)
    base = np.select([seen >= least for least, _ in STEPS], [bound for _, bound in STEPS], default=np.inf)
    return np.sqrt(base ** 2 + NATS * math.log(1 / part))


def main() -> None:
    """Prints P(ever) times the number of signals that share the budget; it should stay where it is for one."""
    random = np.random.default_rng(1)
    for reference in (90, 400):
        z = np.concatenate([rank_sums(reference, 2000, random) for _ in range(40)])
        for signals in (1, 2, 10, 50):
            crossed = z >= bounds(1 / signals)
            shares = [100 * signals * crossed[:, :end].any(axis=1).mean() for end in (60, SAMPLES)]
            print(f"n {reference}, {signals} signals: {shares[0]:.2f} % within 60 samples, {shares[1]:.2f} % within {SAMPLES}")


if __name__ == "__main__":
    main()
