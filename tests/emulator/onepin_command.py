"""OnePin's published command line as a test uses it: pointed at an emulator, and kept on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

KEY = "op_live_0123456789abcdefghijklmnopqrstuv"
#: Writes down every attempt to leave this machine and refuses it.
GUARD = """
import socket
connect, resolve = socket.socket.connect, socket.getaddrinfo

def refuse(host):
    with open(r"{log}", "a") as log:
        log.write(f"{{host}}\\n")
    raise OSError("no network beyond this machine")

def guarded_connect(self, address):
    if isinstance(address, tuple) and address[0] != "127.0.0.1":
        refuse(address[0])
    return connect(self, address)

def guarded_resolve(host, *rest, **options):
    if host not in ("127.0.0.1", None):
        refuse(host)
    return resolve(host, *rest, **options)

socket.socket.connect, socket.getaddrinfo = guarded_connect, guarded_resolve
"""


class CommandLine:
    """The published ``onepin`` command, pointed at the emulator and kept on this machine.

    Args:
        url: The emulated OnePin.
        home: A directory of its own.
        python: The interpreter of the environment that it is installed in.
    """

    def __init__(self, url: str, home: Path, python: Path = Path(sys.executable)) -> None:
        self.python = python
        self.log = home / "left-the-machine"
        (home / "sitecustomize.py").write_text(GUARD.format(log=self.log))
        inherited = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        self.environment = {
            **inherited,
            "HOME": str(home),
            "PYTHONPATH": str(home),
            "ONEPIN_API_KEY": KEY,
            "ONEPIN_BASE_URL": url,
            "NO_COLOR": "1",
        }

    def __call__(self, *arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(self.python.with_name("onepin")), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**self.environment, **environment},
        )
        assert done.returncode == code, done.stderr
        assert not self.log.exists(), self.log.read_text()
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self("--json", *arguments).stdout)
