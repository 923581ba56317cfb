"""The scopes of budgets, and those among them that a call counts towards.

A scope has dimensions, each with a list of names. A budget of one dimension is found by its name. Many scopes of
several have the same dimensions (each user of a team, say), so they share a tree of dicts whose depth is the number of
dimensions. A lookup costs a step for each dimension, however many scopes there are.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from decimal import Decimal
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

Call = Tuple[str, str, str, str, Mapping[str, Any]]
"""Provider, model, user, app and tags, with the values of the context and the recorder."""

_TAG = "tag:"
_KEY = "api_key"
_DATE = re.compile(
    r"(?<=.)(?:[-@]20\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
    r"|-20\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]))\Z",
    re.ASCII | re.DOTALL,
)
"""`-20250514`, `@20250514` or `-2025-05-14`: a year of this century, a month and a day that exist in some year."""
_HASHED = re.compile(r"sha256:[0-9a-f]{12}\Z")

_quoted = json.JSONEncoder(ensure_ascii=False).encode


@functools.lru_cache(maxsize=1024)
def _family(model: str) -> str:
    """The model's name without a date; empty if it has none."""
    family = _DATE.sub("", model)
    return "" if family == model else family


@functools.lru_cache(maxsize=1024)
def _hash(key: str) -> str:
    """An API key as the daemon stores it. A key in that form stays as it is."""
    if _HASHED.match(key):
        return key
    return "sha256:" + hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:12]


class Told:
    """A budget of a scope. `usd`: its remaining amount, None once it is used up. `answer`: to a call that it allows.
    `refused`: the answer to the calls that it refuses, once there was one, if it is the same for all of them."""

    __slots__ = ("usd", "answer", "refused", "dimensions", "lists")

    def __init__(
        self, usd: Optional[Decimal], answer: Any, dimensions: Tuple[str, ...], lists: List[Sequence[str]]
    ) -> None:
        self.usd, self.answer, self.dimensions, self.lists = usd, answer, dimensions, lists
        self.refused: Any = None

    @property
    def has_one_name_each(self) -> bool:
        return all(len(names) == 1 for names in self.lists)

    def lesser(self, other: Optional[Told]) -> Told:
        """The one of both that has less left."""
        if other is None or self.usd is None or (other.usd is not None and self.usd <= other.usd):
            return self
        return other

    def scope(self, call: Call) -> Dict[str, str]:
        """The names by which the call counts towards the budget, by dimension."""
        return {
            dimension: next(name for name in _names(dimension, call) if name in names)
            for dimension, names in zip(self.dimensions, self.lists)
        }


class _Name:
    """A name in a dimension: the budget of that name alone, and the numbers of the lists in trees that have it."""

    __slots__ = ("told", "numbers")

    def __init__(self) -> None:
        self.told: Optional[Told] = None
        self.numbers: List[int] = []


class Scopes:
    """Budgets by their scopes."""

    __slots__ = ("_everything", "_dimensions", "_plain", "_tags", "_trees", "_numbers")

    def __init__(self) -> None:
        self._everything: Optional[Told] = None
        plain: List[Dict[str, _Name]] = [{}, {}, {}, {}]
        self._plain = plain
        self._dimensions = dict(zip(("provider", "model", "user", "app"), plain))
        self._tags: List[Tuple[str, str, bool, Dict[str, _Name]]] = []
        """Each tag's dimension, its own name, whether it is an API key, and the names in it."""
        self._trees: Dict[Tuple[str, ...], Dict[int, Any]] = {}
        self._numbers: Dict[Tuple[str, ...], int] = {}

    def add(self, scope: Any, usd: Optional[Decimal] = None, answer: Any = None) -> None:
        """Adds a budget. A scope with a dimension that this client does not know matches no call, and is left out: a
        newer daemon may know more."""
        if not isinstance(scope, dict):
            return
        if not all(dimension in self._dimensions or dimension.startswith(_TAG) for dimension in scope):
            return
        dimensions = tuple(sorted(scope))
        told = Told(usd, answer, dimensions, [scope[dimension] for dimension in dimensions])
        if not dimensions:
            self._everything = told.lesser(self._everything)
        elif len(dimensions) == 1:
            for name in told.lists[0]:
                one = self._name(dimensions[0], name)
                one.told = told.lesser(one.told)
        else:
            *inner, last = map(self._number, dimensions, told.lists)
            node = self._trees.setdefault(dimensions, {})
            for number in inner:
                node = node.setdefault(number, {})
            node[last] = told.lesser(node.get(last))

    def _name(self, dimension: str, name: str) -> _Name:
        names = self._dimensions.get(dimension)
        if names is None:
            names = self._dimensions[dimension] = {}
            tag = dimension[len(_TAG) :]
            self._tags.append((dimension, tag, tag.lower() == _KEY, names))
        return names.setdefault(name, _Name())

    def _number(self, dimension: str, names: Sequence[str]) -> int:
        """The number of a list of names. The same names in another scope are the same list."""
        number = self._numbers.setdefault((dimension, *names), len(self._numbers))
        for name in names:
            numbers = self._name(dimension, name).numbers
            if number not in numbers:
                numbers.append(number)
        return number

    def least(self, call: Call) -> Optional[Told]:
        """The budget that the call counts towards and that has the least left; None if it counts towards none.

        Written out for speed: an application waits for it before each call.
        """
        provider, model, user, app, tags = call
        providers, models, users, apps = self._plain
        least = self._everything
        found: List[Tuple[str, _Name]] = []
        if providers and provider:
            one = providers.get(provider) or providers.get(provider.strip().lower())
            if one is not None:
                found.append(("provider", one))
        if models and model:
            one = models.get(model)
            if one is not None:
                found.append(("model", one))
            family = _family(model)
            if family and family in models:
                found.append(("model", models[family]))
        if user in users and user:
            found.append(("user", users[user]))
        if app in apps and app:
            found.append(("app", apps[app]))
        for dimension, tag, is_key, names in self._tags:
            value = app if tag == "app" else tags.get(tag)
            if value is not None and value != "":
                one = names.get(_hash(str(value)) if is_key else str(value))
                if one is not None:
                    found.append((dimension, one))
        for _, one in found:
            if one.told is not None:
                least = one.told.lesser(least)
        if len(found) > 1 and self._trees:
            least = self._deeper(found, least)
        return least

    def _deeper(self, found: List[Tuple[str, _Name]], least: Optional[Told]) -> Optional[Told]:
        """As `least`, of scopes with several dimensions."""
        numbers: Dict[str, List[int]] = {}
        for dimension, one in found:
            numbers[dimension] = numbers.get(dimension, []) + one.numbers
        for dimensions, tree in self._trees.items():
            level: List[Any] = [tree]
            for dimension in dimensions:
                listed = numbers.get(dimension, ())
                level = [node[number] for node in level for number in listed if number in node] if listed else []
                if not level:
                    break
            for told in level:
                least = told.lesser(least)
        return least


def _names(dimension: str, call: Call) -> Sequence[str]:
    """The call's names in a dimension: of a model also its family."""
    provider, model, user, app, tags = call
    if dimension == "provider":
        return (provider.strip().lower(),)
    if dimension == "model":
        return (model, _family(model))
    if dimension in ("app", "tag:app"):  # The application is a tag, too.
        return (app,)
    if dimension == "user":
        return (user,)
    tag = dimension[len(_TAG) :]
    value = str(tags.get(tag))
    return (_hash(value) if tag.lower() == _KEY else value,)


def in_words(scope: Mapping[str, str]) -> str:
    """A scope in words: `tag team "search" and user "u-42"`."""
    said = [f"{name.replace(':', ' ', 1)} {_quoted(value)}" for name, value in scope.items()]
    return " and ".join(said) or "all spend"
