"""How many messages a receiver may be sent just now: a bucket that fills slowly, and a lid for when it asks to be left alone. Pure."""

BURST = 10.0  # messages that may go at once, at least


class Budget:
    """`per_minute` messages in the long run, some more at once after a quiet time. Times are Unix s."""

    def __init__(self, per_minute: float, now: float) -> None:
        self._rate, self._most = per_minute / 60.0, max(BURST, per_minute / 3.0)
        self._left, self._at = self._most, now
        self.paused = now  # nothing goes before that

    def free(self, now: float, most: int) -> int:
        """How many of `most` messages may go now."""
        self._fill(now)
        return 0 if now < self.paused else int(min(self._left + 1e-6, most))

    def spend(self, messages: int) -> None:
        """So many are on their way."""
        self._left -= messages

    def ready(self, now: float) -> float:
        """When the next may go."""
        self._fill(now)
        return max(now, self.paused) if self._left >= 1 else max(self.paused, now + (1 - self._left) / self._rate)

    def pause(self, until: float) -> None:
        """It asked to be left alone."""
        self.paused = max(self.paused, until)

    def _fill(self, now: float) -> None:
        self._left = min(self._most, self._left + max(0.0, now - self._at) * self._rate)
        self._at = max(self._at, now)
