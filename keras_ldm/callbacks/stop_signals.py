"""Signals that ask a training to end when it can."""

import os
import signal
import threading
from collections.abc import Iterable
from types import FrameType
from typing import Any


class StopSignals:
    """Remembers that a signal has come, for the training to look at.

    A process that this one forks has the signals' default meaning.

    Args:
        signals: which.

    Attributes:
        received: the number of the one that has come, or None.

    Raises:
        ValueError: for what is no signal, or one that cannot be caught.
    """

    def __init__(self, signals: Iterable[signal.Signals]) -> None:
        self.signals = tuple(signals) if isinstance(signals, Iterable) else (signals,)
        for each in self.signals:
            if each not in set(signal.Signals) or signal.Signals(each).name in ("SIGKILL", "SIGSTOP"):
                raise ValueError(
                    f"Expected `stop_signals` as signals that can be caught. Received: {each!r}"
                )
        self.received: int | None = None
        self._handlers: dict[int, Any] = {}

    def listen(self) -> None:
        """Begins to; on the main thread only."""
        self.received = None
        self._process = os.getpid()
        if threading.current_thread() is threading.main_thread():
            self._handlers = {each: signal.signal(each, self._on_signal) for each in self.signals}

    def ignore(self) -> None:
        """Gives the signals back to whom they had before."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._process:
            self.received = number
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
