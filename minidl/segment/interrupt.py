"""Ctrl-C between two steps: a step that was cut in half could neither be saved nor repeated."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interrupt:
    """While the block runs, the first Ctrl-C only sets `asked`; a second one interrupts at once.

        with Interrupt() as interrupt:
            while not interrupt.asked:

    Outside the main thread, which alone receives signals, it does nothing, and nothing where Ctrl-C is
    ignored: a command that a script started in the background does not listen to the terminal.
    """

    asked = False

    def __enter__(self) -> Interrupt:
        self.before: Any = None
        listens = signal.getsignal(signal.SIGINT) != signal.SIG_IGN
        if listens and threading.current_thread() is threading.main_thread():
            self.before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *exception: object) -> None:
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
