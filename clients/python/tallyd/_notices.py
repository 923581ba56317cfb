"""Warnings on the logger `tallyd`, each kind once. By default Python writes a warning to standard error."""

from __future__ import annotations

import logging
from typing import Set

_log = logging.getLogger("tallyd")


class Notices:
    """Logs each kind once. `quiet`: logs nothing."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._told: Set[str] = set()

    def tell(self, kind: str, message: str, *arguments: object) -> None:
        if self._quiet or kind in self._told:
            return
        self._told.add(kind)
        try:
            _log.warning(message, *arguments)
        except Exception:  # An error in a logging handler must not reach the caller of record().
            pass
