"""The HTTP session of live calls: aiohttp, with connections that are never used again after a stray answer.

aiohttp gives a connection back the moment an answer is complete. Bytes that a broken server or proxy sends after that,
such as the same answer a second time, wait in the connection and would be read as the answer to whatever is asked on
it next: a wrong row, with no error anywhere.
"""

import os
import ssl
from typing import Any

import aiohttp
import certifi
from aiohttp.connector import Connection

ACCOUNT_HEADERS = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}
"""Set from the environment, as the official client does."""


def open_session(api_key: str, *, concurrency: int, trust_env: bool) -> aiohttp.ClientSession:
    """Open a session in the running event loop; whoever asks sets the time limits.

    Args:
        api_key: Sent as a bearer token; empty for none.
        concurrency: Calls in flight; each may be made a second time when it is slow.
        trust_env: Whether proxies of the environment are used.

    Returns:
        The session; close it.
    """
    headers = {name: os.environ[variable] for name, variable in ACCOUNT_HEADERS.items() if os.environ.get(variable)}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    tls = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())
    return aiohttp.ClientSession(
        connector=_Connector(limit=2 * concurrency, ssl=tls),
        headers={"Content-Type": "application/json", **headers},
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=trust_env,
    )


class _Connector(aiohttp.TCPConnector):
    async def _get(self, key: Any, traces: Any) -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        return None
