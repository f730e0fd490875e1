"""The body of an answer, its compression undone within a limit."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

from runops.core.model.errors import AnswerLost, MalformedAnswer
from runops.core.model.secret import Opaque
from runops.core.transport.base import LONGEST_HEAD
from runops.core.transport.failures import too_large


def whole_body(pieces: Sequence[bytes], encoding: str | None, limit: int) -> bytes:
    """The body of an answer that has come in pieces; see :class:`Inflater`.

    Raises:
        AnswerError: It is over the limit, its compression is broken or cut off, or it was not asked for.
    """
    if encoding is None:
        # Most are not compressed.
        body = Opaque(b"".join(pieces))
        if len(body) > limit:
            raise too_large(limit)
        return body
    inflater = Inflater(encoding, limit)
    for piece in pieces:
        inflater.feed(piece)
    return inflater.finish()


class Inflater:
    """Collects a body and undoes its compression, never holding more than ``limit`` bytes.

    Args:
        encoding: The ``Content-Encoding`` of the answer.
        limit: The most bytes that the body may have, decompressed.

    Raises:
        MalformedAnswer: The encoding is none that was asked for.
    """

    def __init__(self, encoding: str | None, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = self._received = 0
        self._decoder: zlib._Decompress | None = None  # pyright: ignore[reportPrivateUsage] - a type of typeshed only
        self._waiting = b""
        """What has come and cannot be told apart yet."""
        self._begun = self._ended = False
        """Whether a first compressed member has begun, and whether all that follows is padding."""
        names = [name for name in re.split(r"[\s,]+", (encoding or "").lower()) if name not in ("", "identity")]
        if names and names not in (["gzip"], ["x-gzip"], ["deflate"]):
            raise MalformedAnswer("The answer is compressed in a way that was not asked for.")
        self._encoding = names[0] if names else None

    def feed(self, chunk: bytes) -> None:
        """Take the next piece off the wire.

        Raises:
            MalformedAnswer: The body is over the limit, or its compression is broken.
        """
        if self._encoding is None:
            self._take(chunk)
            return
        self._received += len(chunk)
        if self._received > self._limit + LONGEST_HEAD:
            # Compression that grows: empty members without end, which would never reach the limit.
            raise too_large(self._limit)
        # A body may be several compressed members, one after the other.
        chunk, self._waiting = self._waiting + chunk, b""
        while chunk and not self._ended:
            decoder = self._decoder = self._decoder or self._begin(chunk)
            if decoder is None:
                return
            try:
                self._take(decoder.decompress(chunk, self._limit - self._size + 1))
            except zlib.error:
                raise MalformedAnswer("The answer's compression is broken.") from None
            chunk = decoder.unused_data
            if decoder.eof:
                self._decoder = None

    def _begin(self, chunk: bytes) -> zlib._Decompress | None:  # pyright: ignore[reportPrivateUsage]
        """The decoder of a member, by its first two bytes; None where there are fewer, or no further member."""
        if len(chunk) < 2:
            self._waiting = chunk
            return None
        gzipped = chunk[:2] == b"\x1f\x8b"
        if self._begun and not gzipped:
            self._ended = True
            return None
        self._begun = True
        bare = self._encoding == "deflate" and (chunk[0] & 0x0F != zlib.DEFLATED or int.from_bytes(chunk[:2]) % 31 != 0)
        # Some call deflate what has no zlib header.
        return zlib.decompressobj(wbits=-zlib.MAX_WBITS if bare and not gzipped else zlib.MAX_WBITS | 32)

    def _take(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            raise too_large(self._limit)
        if piece:
            self._parts.append(piece)

    def finish(self) -> bytes:
        """The whole body.

        Raises:
            AnswerLost: The compressed body is cut off.
        """
        if self._decoder is not None or (self._waiting and not self._begun):
            raise AnswerLost("The answer's compressed body is cut off.")
        return Opaque(b"".join(self._parts))
