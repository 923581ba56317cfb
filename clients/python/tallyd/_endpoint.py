"""The daemon's address."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from typing import Optional
from urllib.parse import unquote, urlsplit

DEFAULT = "unix:/run/tallyd/tallyd.sock"


@dataclass(frozen=True)
class Endpoint:
    """A Unix socket (`path`), TCP (`host`, `port`, `token`), or the daemon's HTTP API (`url`, `token`)."""

    path: Optional[str] = None
    host: str = ""
    port: int = 0
    token: Optional[str] = field(default=None, repr=False)
    url: Optional[str] = None

    @classmethod
    def parse(cls, text: Optional[str] = None, token: Optional[str] = None) -> Endpoint:
        """Reads `unix:/path`, a bare path, `tcp://[token@]host:port`, or `https://host`.

        Default: `TALLYD_ENDPOINT`, else `TALLYD_SOCKET`, else the default socket. Raises ValueError for anything else.
        """
        text = text or os.environ.get("TALLYD_ENDPOINT") or os.environ.get("TALLYD_SOCKET") or DEFAULT
        token = token or os.environ.get("TALLYD_TOKEN")
        if text.startswith(("https://", "http://")):
            return cls._of_url(text, token)
        if not text.startswith("tcp://"):
            path = text[5:] if text.startswith("unix:") else text
            if not path:
                raise ValueError("an endpoint is unix:/path or tcp://token@host:port, but it is empty")
            return cls(path=path)
        parts = urlsplit(text)
        if not parts.hostname or not parts.port:
            raise ValueError("a TCP endpoint is tcp://token@host:port")
        return cls(host=parts.hostname, port=parts.port, token=unquote(parts.username) if parts.username else token)

    @classmethod
    def _of_url(cls, text: str, token: Optional[str]) -> Endpoint:
        parts = urlsplit(text)
        if not parts.hostname:
            raise ValueError("an HTTP endpoint is https://host[:port][/path]")
        url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        return cls(url=url, token=unquote(parts.username) if parts.username else token)

    def connect(self, timeout: float) -> socket.socket:
        """Connects, with `timeout` in seconds. Raises OSError."""
        if self.path is None:
            return socket.create_connection((self.host, self.port), timeout)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            sock.connect(self.path)
        except OSError:
            sock.close()
            raise
        return sock

    def __str__(self) -> str:
        """The address without the token."""
        if self.url is not None:
            return self.url
        return f"unix:{self.path}" if self.path is not None else f"tcp://{self.host}:{self.port}"
