"""What went wrong, told once a kind, on the logger `tallyd`: Python writes a warning to standard error by default."""

from __future__ import annotations

import logging
from typing import Set

_log = logging.getLogger("tallyd")


class Notices:
    """Tells each kind once. `quiet`: never."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._told: Set[str] = set()

    def tell(self, kind: str, message: str, *arguments: object) -> None:
        if self._quiet or kind in self._told:
            return
        self._told.add(kind)
        try:
            _log.warning(message, *arguments)
        except Exception:  # A handler's fault must not reach the caller of record().
            pass
