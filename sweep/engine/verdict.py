"""Whether the failures of a run have one cause: then going on would only burn time."""

from __future__ import annotations

from sweep.engine.options import RunOptions


class Verdict:
    """Counts the outcomes of this run; `reason` is the sentence for which it should end, empty while it should not."""

    def __init__(self, options: RunOptions) -> None:
        self._limit = options.failures
        self._most_alike = options.alike
        self._last = ""
        self._alike = 0
        self.succeeded = 0
        self.failed = 0
        self.reason = ""

    @property
    def outcomes(self) -> int:
        """How many variations this run brought to an end."""
        return self.succeeded + self.failed

    def after(self, failure: str | None) -> str:
        """Count one outcome (None: it succeeded); gives `reason` at the moment it becomes true, else nothing."""
        if failure is None:
            self.succeeded += 1
            self._alike, self._last = 0, ""
        else:
            self.failed += 1
            self._alike = self._alike + 1 if failure == self._last else 1
            self._last = failure
        if self.reason:
            return ""
        self.reason = self._judge()
        return self.reason

    def _judge(self) -> str:
        if self._limit.reached(self.failed, self.failed + self.succeeded):
            return f"{self.failed} variations failed, which is the limit given; no more are begun."
        if self._alike >= self._most_alike:
            return f"The last {self._alike} variations failed alike ({self._last}); no more are begun."
        return ""
