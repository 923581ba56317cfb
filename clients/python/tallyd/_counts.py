"""The counts of a vendor's usage object, with a mark on each count that was read.

A call's usage is understood completely, or the call is unpriced. Not understood are: a quantity that is unmarked at the
end, and a count that is not a whole number. The first such name goes into the record's metadata, where the daemon
shows it.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Optional, Set, Union

MARK = "tallyd.not_understood"
"""Metadata key that makes the daemon leave the call unpriced."""

_NO_USAGE = frozenset(("cost", "time", "latency", "duration", "ratio", "percent", "limit", "max", "remaining"))
"""Words in names of values that are not billed: `queue_time`, `max_tokens`. A cost is read elsewhere."""
_NO_USAGE_IN = re.compile("per_second|context_window|token_type")


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def mappings(value: Any) -> List[Mapping[str, Any]]:
    return [mapping(one) for one in value] if isinstance(value, list) else []


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


class Doubts:
    """The first name of an answer that was not understood."""

    def __init__(self) -> None:
        self.first: Optional[str] = None

    def add(self, name: str) -> None:
        if self.first is None:
            self.first = name

    def metadata(self) -> Dict[str, Any]:
        return {} if self.first is None else {MARK: self.first}


class Counts:
    """Reads counts of `root`. `at`: the prefix of the names in `doubts`."""

    def __init__(self, root: Mapping[str, Any], at: str, doubts: Doubts) -> None:
        self._root, self._at, self._doubts = root, at, doubts
        self._read: Set[str] = set()

    def get(self, path: str) -> Any:
        value: Any = self._root
        for name in path.split("."):
            value = mapping(value).get(name)
        return value

    def doubt(self, path: str) -> None:
        self._doubts.add(f"{self._at}.{path}")

    def count(self, path: str) -> int:
        """A whole number; 0 if it is missing. Doubts any other value."""
        value = self.number(path)
        if value == int(value):
            return int(value)
        self.doubt(path)
        return 0

    def number(self, path: str) -> Union[int, float]:
        """A number from 0 on, below 2^53; 0 if it is missing. Doubts any other value."""
        self._read.add(path)
        value = self.get(path)
        if value is None:
            return 0
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**53:
            return value
        self.doubt(path)
        return 0

    def one(self, *paths: str) -> int:
        """One count that vendors give different names. Doubts two that differ."""
        found = 0
        for path in paths:
            count = self.count(path)
            if not found:
                found = count
            elif count not in (0, found):
                self.doubt(path)
        return found

    def part(self, *paths: str) -> None:
        """Marks counts that are parts of others, or cost nothing."""
        self._read.update(paths)

    def less(self, path: str, whole: int, *parts: int) -> int:
        """`whole` minus `parts`, not below 0. Doubts parts that exceed their whole."""
        rest = whole - sum(parts)
        if rest < 0:
            self.doubt(path)
        return max(0, rest)

    def rest(self) -> None:
        """Doubts the alphabetically first unread name that holds a quantity."""
        unread = sorted(self._unread(self._root, ""))
        if unread:
            self.doubt(unread[0])

    def _unread(self, value: Any, path: str) -> List[str]:
        if path in self._read:
            return []
        if isinstance(value, list):
            return [found for one in value for found in self._unread(one, path)]
        if isinstance(value, Mapping):
            inner = ((f"{path}.{name}" if path else str(name), one) for name, one in value.items())
            return [found for name, one in inner for found in self._unread(one, name)]
        return [path] if _tells_usage(path, value) else []


def _tells_usage(path: str, value: Any) -> bool:
    name = path.lower()
    if _NO_USAGE.intersection(re.split("[^a-z]+", name)) or _NO_USAGE_IN.search(name):
        return False
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value != 0
    return isinstance(value, str) and value != "" and "token" in name.rsplit(".", 1)[-1]
