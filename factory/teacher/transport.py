"""The official client's aiohttp transport, with connections that are never used again after a stray answer.

aiohttp gives a connection back the moment an answer is complete. Bytes that a broken server or proxy sends after that,
such as the same answer a second time, wait in the connection and would be read as the answer to whatever is asked on
it next: a wrong row, with no error anywhere.
"""

from typing import Any

import aiohttp
from aiohttp.connector import Connection
from httpx2 import AsyncBaseTransport
from openai import DefaultAioHttpClient  # noqa: TID253 - this module is itself imported only when a line is opened
from openai._vendor.httpx_aiohttp import AiohttpTransport  # noqa: TID253


class _Connector(aiohttp.TCPConnector):
    async def _get(self, key: Any, traces: Any) -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        return None


class AioHttpClient(DefaultAioHttpClient):
    """The official client's transport over such connections; takes its arguments."""

    def _init_transport(self, *args: Any, **options: Any) -> AsyncBaseTransport:
        return _over_own_connections(super()._init_transport(*args, **options))

    def _init_proxy_transport(self, *args: Any, **options: Any) -> AsyncBaseTransport:
        return _over_own_connections(super()._init_proxy_transport(*args, **options))


def _over_own_connections(transport: AsyncBaseTransport) -> AsyncBaseTransport:
    if isinstance(transport, AiohttpTransport):
        transport.client = lambda: aiohttp.ClientSession(
            connector=_Connector(
                limit=transport.limits.max_connections or 0,
                keepalive_timeout=transport.limits.keepalive_expiry,
                ssl=transport.ssl_context,
            )
        )
    return transport
