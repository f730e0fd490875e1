"""Where an emulated OnePin keeps the audio of its runs: signed addresses, and small files of silence behind them.

No route of OnePin's: its answers name addresses of a storage (``url``, ``playback_url``), and its clients fetch what is
there. Here that is ``/_storage`` below the emulated API. Such an address needs no key, works for 15 minutes of the
emulator's clock (403 afterwards), and gives a WAV file or a ZIP archive of them.
"""

from __future__ import annotations

import hashlib
import io
import wave
import zipfile
from collections.abc import Iterable
from typing import TYPE_CHECKING

from runops.emulator.api import Route
from runops.emulator.wire import Answer

if TYPE_CHECKING:
    from runops.emulator.runs import Run
    from runops.emulator.services.onepin_wire import OnepinWire
    from runops.emulator.wire import Request

LOCALE = "en-us"
LINES = (("Welcome aboard.", 1200), ("Please fasten your seat belts.", 2100), ("We land at noon.", 1500))
"""What every run speaks, each line with its milliseconds."""
TOTAL_MS = sum(length for _, length in LINES)
URL_SECONDS = 900
FILE_RATE = 8_000
"""Samples a second of the silence in the WAV files."""


class OnepinFiles:
    """The storage.

    Args:
        api: The API whose runs' files it holds.
    """

    def __init__(self, api: OnepinWire) -> None:
        self.api = api

    def routes(self) -> Iterable[Route]:
        """Return its route."""
        yield Route("GET", "/_storage/{run_id}/{filename}", "file", self._file, public=True)

    def signed(self, request: Request, run: Run, filename: str) -> tuple[str, int]:
        """Return the address of a file, and until when it works, in seconds since the epoch."""
        until = int(self.api.store.now()) + URL_SECONDS
        signature = _signature(self.api.seed, run.run_id, filename, str(until))
        path = f"{request.root_url}/_storage/{run.run_id}/{filename}"
        return f"{path}?expires={until}&signature={signature}", until

    def _file(self, request: Request) -> Answer:
        run_id, filename = request.params["run_id"], request.params["filename"]
        expires, signature = request.query.get("expires", ""), request.query.get("signature", "")
        if signature != _signature(self.api.seed, run_id, filename, expires) or self.api.store.now() > int(expires):
            return Answer(403, b"Request has expired", {"content-type": "text/plain"})
        if filename.endswith(".wav"):
            place = int(filename.removeprefix("line-").removesuffix(".wav"))
            return Answer(200, wav_of(LINES[place - 1][1]), {"content-type": "audio/wav"})
        return Answer(200, _archive(), {"content-type": "application/zip"})


def _signature(seed: int, run_id: str, filename: str, expires: str) -> str:
    return hashlib.sha256(f"{seed}:{run_id}:{filename}:{expires}".encode()).hexdigest()


def wav_of(milliseconds: int) -> bytes:
    """Write so much silence as a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as audio:
        audio.setnchannels(1)
        audio.setsampwidth(1)
        audio.setframerate(FILE_RATE)
        audio.writeframes(b"\x80" * (FILE_RATE * milliseconds // 1000))
    return file.getvalue()


def _archive() -> bytes:
    """Write the three lines as a ZIP archive, the same bytes each time."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for place, (_, length) in enumerate(LINES, 1):
            archive.writestr(zipfile.ZipInfo(f"{LOCALE}/line-{place}.wav"), wav_of(length))
    return file.getvalue()
