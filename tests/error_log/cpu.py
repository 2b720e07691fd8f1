"""What something costs the processor, where a test sets a bound to it."""

import time
from collections.abc import Callable


def least(work: Callable[[], object]) -> float:
    """CPU s of this thread that `work` takes, the least of three: into any one of them a collection of all garbage may fall."""
    spent = []
    for _ in range(3):
        begun = time.thread_time()
        work()
        spent.append(time.thread_time() - begun)
    return min(spent)
