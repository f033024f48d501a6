"""The signals that end a process: the first asks it to finish, the second to hurry."""

import asyncio
import signal


class Signals:
    """Counts SIGTERM and SIGINT from now on."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._received)

    def _received(self) -> None:
        (self.second if self.first.is_set() else self.first).set()
