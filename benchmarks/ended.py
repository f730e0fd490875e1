"""The response check of HttpEventTrigger; it imports a module for it anew at each poll, so it has one of its own."""

from __future__ import annotations

from typing import Any


async def ended(response: Any) -> bool:
    return response.json()["over"]
