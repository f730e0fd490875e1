"""The clients: for plain Python in ``plain.py``, for asyncio in ``asynchronous.py``."""

from runops.core.client.asynchronous import AsyncRunClient
from runops.core.client.plain import RunClient

__all__ = ["AsyncRunClient", "RunClient"]
