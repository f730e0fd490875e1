"""Whose certificates are accepted and which one is shown: a TLS context for each choice, renewed with its files."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn
from weakref import WeakKeyDictionary

from runops.core.model.codes import Code
from runops.core.model.errors import ConfigurationError

logger = logging.getLogger("runops")

_ENVIRONMENT = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""What names the accepted authorities where ``verify`` does not."""

Stamp = tuple[tuple[int, int, int] | None, ...]
"""What changes when a file does: its time, size and number, for each file; None for one that is not there."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """The files behind the TLS of one connection, resource or client.

    Args:
        verify: A file of the authorities that are accepted, and no others; empty for those that the environment
            (SSL_CERT_FILE, SSL_CERT_DIR) or httpx knows.
        client_cert: A file with the certificate that is shown to the service, and its chain; empty for none.
        client_key: A file with its key, where that is not in ``client_cert``.
        origin: Where a person set them, for messages.
    """

    verify: str = ""
    client_cert: str = ""
    client_key: str = ""
    origin: str = field(default="", compare=False)

    def to_proxy(self) -> Certificates:
        """Those for a proxy that speaks TLS: it is checked alike, and shown nothing."""
        return replace(self, client_cert="", client_key="")

    def context(self) -> ssl.SSLContext:
        """The context for the next connection. It reads files, where they have changed or were never read.

        A file that was renewed and cannot be used, such as one that is being written, leaves the context of before in
        its place, with a warning: what works goes on.

        Raises:
            ConfigurationError: A file cannot be used, and none could before in this process.
        """
        key = (self, *(os.environ.get(name) for name in _ENVIRONMENT))
        stamp = self._stamp()
        loaded = _LOADED.get(key)
        if loaded is not None and loaded.stamp == stamp:
            return loaded.context
        try:
            context = self._load()
        except ConfigurationError as error:
            if loaded is None:
                raise
            logger.warning("%s Connections go on with what was read before.", error)
            context = loaded.context
        _LOADED[key] = _Loaded(context, stamp)
        _OWNERS[context] = self
        return context

    async def context_off_loop(self) -> ssl.SSLContext:
        """The same without holding the event loop: the files may be many, or on a slow disk."""
        return await asyncio.to_thread(self.context)

    def text(self, name: str) -> str:
        """A setting as messages name it, such as ``verify='/etc/ca.pem' of connection 'c'``; empty for none."""
        path: str = getattr(self, name)
        return f"{name}={path!r}{f' of {self.origin}' if self.origin else ''}" if path else ""

    def _stamp(self) -> Stamp:
        verify = self.verify or os.environ.get("SSL_CERT_FILE", "")
        return tuple(_stamp_of(path) for path in (verify, self.client_cert, self.client_key) if path)

    def _load(self) -> ssl.SSLContext:
        context = self._trusting() if self.verify else _trusting_by_default()
        if self.client_cert:
            self._show(context)
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _trusting(self) -> ssl.SSLContext:
        self._check_readable("verify")
        try:
            return ssl.create_default_context(cafile=self.verify)
        except OSError as error:
            self._refuse("verify", _reason(error, "it holds no certificate in PEM form"))

    def _show(self, context: ssl.SSLContext) -> None:
        self._check_readable("client_cert")
        key = "client_key" if self.client_key else "client_cert"
        self._check_readable(key)
        try:
            context.load_cert_chain(self.client_cert, self.client_key or None, password=_refuse_encrypted)
        except _Encrypted:
            self._refuse(key, "its key is protected by a password: name a file with the key unprotected")
        except OSError as error:
            if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
                self._refuse(key, f"its key does not belong to the certificate in client_cert={self.client_cert!r}")
            if not _holds_certificate(self.client_cert):
                self._refuse("client_cert", "it holds no certificate in PEM form")
            absent = "it holds no private key in PEM form"
            self._refuse(key, absent if self.client_key else f"{absent}: add it, or name its file in client_key")

    def _check_readable(self, name: str) -> None:
        try:
            Path(getattr(self, name)).open("rb").close()
        except (OSError, ValueError) as error:
            self._refuse(name, _reason(error, "it is no path"))

    def _refuse(self, name: str, why: str) -> NoReturn:
        raise ConfigurationError(f"{self.text(name)} cannot be used: {why}.", error_code=Code.BAD_CONNECTION) from None


@dataclass(frozen=True, slots=True)
class _Loaded:
    context: ssl.SSLContext
    stamp: Stamp


# Loading a trust store costs more than a hundred polls, so each choice has one context in a process. Two threads may
# load one at the same time, which is harmless; a lock could be held over a fork.
_LOADED: dict[tuple[Certificates | str | None, ...], _Loaded] = {}
_OWNERS: WeakKeyDictionary[ssl.SSLContext, Certificates] = WeakKeyDictionary()


def latest(context: ssl.SSLContext) -> ssl.SSLContext:
    """The context of now in the place of one that a pool was given when it was made: files may have been renewed."""
    owner = _OWNERS.get(context)
    return context if owner is None else owner.context()


async def latest_off_loop(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same without holding the event loop."""
    owner = _OWNERS.get(context)
    return context if owner is None else await owner.context_off_loop()


def _trusting_by_default() -> ssl.SSLContext:
    # Who has the authorities of its own loads no HTTP library for that.
    import httpx

    try:
        if authorities := os.environ.get("SSL_CERT_FILE"):
            # Older versions of httpx take what they know in the place of a file that is not there.
            Path(authorities).open("rb").close()
        return httpx.create_ssl_context()
    except OSError as error:
        named = [name for name in (*_ENVIRONMENT, "SSLKEYLOGFILE") if os.environ.get(name)]
        where = ", ".join(f"{name}={os.environ[name]!r}" for name in named) or "the trust store of this Python"
        why = _reason(error, "it holds no certificate that can be read")
        raise ConfigurationError(
            f"The certificates for TLS cannot be loaded from {where} ({why}): name a file of PEM certificates that "
            "can be read, or unset the variable.",
            error_code=Code.BAD_CONNECTION,
        ) from None


def _stamp_of(path: str) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _holds_certificate(path: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError:
        return False
    return True


def _reason(error: Exception, unreadable: str) -> str:
    """Why a file could not be loaded; ``unreadable`` where it could be opened."""
    if isinstance(error, ssl.SSLError) or not isinstance(error, OSError) or error.strerror is None:
        return unreadable
    return error.strerror


class _Encrypted(Exception):
    """Raised in the place of a question for a password on the terminal."""


def _refuse_encrypted() -> str:
    raise _Encrypted
