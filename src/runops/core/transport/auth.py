"""How a request proves who sends it: httpx.Auth classes that hide their secret and never log it."""

from __future__ import annotations

from collections.abc import Generator

import httpx

from runops.core.declaration import AuthScheme
from runops.core.model.codes import Code
from runops.core.model.errors import ConfigurationError
from runops.core.model.secret import Secret


class HeaderAuth(httpx.Auth):
    """Puts a secret into one header of each request, and shows it nowhere else.

    Args:
        scheme: Where the secret goes.
        secret: The key or token.
        origin: Where a person set it, such as ``connection 'nexio_default'``; for messages.

    Raises:
        ConfigurationError: The secret is empty or cannot stand in a header. The text never holds it.
    """

    def __init__(self, scheme: AuthScheme, secret: str | Secret, *, origin: str = "token") -> None:
        secret = Secret(secret)
        if not secret:
            raise ConfigurationError(
                f"{origin} holds no API key: set it to the key or token of the service.", error_code=Code.MISSING_KEY
            )
        if not secret.fits_header:
            raise ConfigurationError(
                f"{origin} holds a character that cannot stand in a header; paste it again.",
                error_code=Code.BAD_CONNECTION,
            )
        self._scheme = scheme
        self._secret = secret
        self.origin = origin

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign a request; see httpx.Auth."""
        request.headers[self._scheme.header] = self._scheme.prefix + self._secret.reveal()
        yield request

    @property
    def secret(self) -> Secret:
        """The secret itself, which shows itself to nobody."""
        return self._secret

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What must be cut out of any text before a person sees it."""
        return (self._secret,)

    @property
    def fingerprint(self) -> str:
        """A hash that tells credentials apart without holding one."""
        return self._secret.fingerprint

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._scheme.header}, origin={self.origin!r})"

    def __reduce__(self) -> str:
        raise TypeError("A credential does not travel between processes; read it again where it is needed.")
