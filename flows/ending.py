"""A run that is cancelled ends soon, whatever it is doing.

Prefect asks a run to end by SIGTERM, which Python hears only between two of its own instructions: a fit that takes a
minute would go on for a minute. (Code that never gives other threads a turn is killed by Prefect, after 30 s.) Nothing
is lost by ending at once: stages are renamed into place when they are whole, replies are stored as they come, and
llama.cpp ends with the process that started it.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

GRACE_S = 4.0
"""How long a run may take to end by itself."""
ENDED = 128 + signal.SIGTERM


@contextmanager
def ends_when_told(grace_s: float = GRACE_S) -> Iterator[None]:
    """End this process some seconds after the first SIGTERM that comes while the block runs.

    Args:
        grace_s: How long it may take to end by itself.

    Yields:
        Nothing; outside of the main thread, where Python hears no signals, nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    # The signal's number is written by C code, as soon as it comes.
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=[reading, grace_s], daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)  # ends the thread


def _watch(reading: int, grace_s: float) -> None:
    try:
        while said := os.read(reading, 64):
            if signal.SIGTERM in said:
                time.sleep(grace_s)
                os._exit(ENDED)
    finally:
        os.close(reading)
