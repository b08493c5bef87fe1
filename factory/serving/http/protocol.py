"""uvicorn's HTTP protocol with what it lacks: a connection must send the head of a request in time and in size.

Without it a client that sends one byte a minute, or a head that never ends, keeps a connection for ever.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
HEAD_BYTES = 65_536


class GuardedProtocol(HttpToolsProtocol):
    """Closes connections whose next request does not begin to make sense in time."""

    head_seconds = HEAD_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._n_head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_expecting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read, and give up a head that is too long."""
        super().data_received(data)
        if self._head_timer is None or self.transport.is_closing():
            return
        self._n_head_bytes += len(data)
        if self._n_head_bytes > HEAD_BYTES:
            self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        """The first byte of a request starts its clock."""
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        """A whole head has come."""
        self._stop_expecting()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._stop_expecting()
        self._n_head_bytes = 0
        self._head_timer = self.loop.call_later(self.head_seconds, self._too_slow)

    def _stop_expecting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._expect_head()  # the request before it is still being answered
        elif not self.transport.is_closing():
            self.transport.close()
