"""Reads recorded costs over the daemon's HTTP API. Amounts are Decimal, never float."""

from __future__ import annotations

import json
import os
from datetime import date
from decimal import Decimal
from http.client import HTTPException
from typing import Any, Dict, List, Optional, Union
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

Day = Union[date, str]

_AMOUNTS = frozenset(
    "totalCost claudeCost rentcastCost cost dailyBudget budgetPercent remaining costPerRequest monthly overage".split()
)


class CostsError(Exception):
    """The daemon did not answer, or refused. `status`: the HTTP status, 0 without an answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Costs:
    """Asks the daemon at `url`, with a token of the role `read` (`tallyd token create`).

    Default URL: `TALLYD_HTTP`, else `http://127.0.0.1:7420`. Default token: `TALLYD_HTTP_TOKEN`. Methods block for
    `timeout` seconds at most, and raise CostsError. Amounts are USD.
    """

    def __init__(self, url: Optional[str] = None, token: Optional[str] = None, *, timeout: float = 30.0) -> None:
        self._url = (url or os.environ.get("TALLYD_HTTP") or "http://127.0.0.1:7420").rstrip("/")
        self._token = token or os.environ.get("TALLYD_HTTP_TOKEN")
        self._timeout = timeout

    def history(
        self, days: Optional[int] = None, *, start: Optional[Day] = None, end: Optional[Day] = None
    ) -> List[Any]:
        """Totals of each day, newest first: `date`, `totalCost`, `totalCalls`, `byModel`, `byRentCastEndpoint` …"""
        answer = self.get("/api/admin/cost-history", days=days, **{"from": start, "to": end})
        return list(answer)

    def today(self) -> Dict[str, Any]:
        """Today's totals as `today`, and its budget: `dailyBudget`, `remaining`, `shouldThrottle`, `status` …"""
        return dict(self.get("/api/admin/costs"))

    def summary(
        self,
        days: Optional[int] = None,
        *,
        group_by: str = "provider",
        start: Optional[Day] = None,
        end: Optional[Day] = None,
        **filters: str,
    ) -> Dict[str, Any]:
        """Costs of a range of days as `rows`, one a group. `group_by`: any of provider, model, endpoint, user, app.

        `filters`: other parameters of `/api/v1/costs`, such as `bucket="day"`, `model="…"`, `limit=`.
        Amounts in `rows` are decimal text in USD, as in the API.
        """
        return dict(self.get("/api/v1/costs", days=days, group_by=group_by, **{"from": start, "to": end}, **filters))

    def get(self, path: str, **query: Any) -> Any:
        """Sends any GET request of the API, and returns its JSON. Parameters that are None are left out."""
        given = {name: str(value) for name, value in query.items() if value is not None}
        return self._ask(Request(f"{self._url}{path}?{urlencode(given)}" if given else f"{self._url}{path}"))

    def post(self, path: str, body: Any) -> Any:
        """Sends a POST request with `body` as JSON; returns the answer's JSON. Needs a token of the role `admin`."""
        headers = {"content-type": "application/json"}
        return self._ask(Request(f"{self._url}{path}", json.dumps(body).encode(), headers))

    def _ask(self, request: Request) -> Any:
        if self._token:
            request.add_header("authorization", f"Bearer {self._token}")
        try:
            with urlopen(request, timeout=self._timeout) as response:
                return json.loads(response.read(), parse_float=Decimal, object_hook=_exact)
        except HTTPError as error:
            with error:
                raise CostsError(_said(error), error.code) from None
        except (URLError, HTTPException, OSError, ValueError) as error:
            raise CostsError(f"tallyd did not answer at {self._url}: {error}") from error


def _exact(answer: Dict[str, Any]) -> Dict[str, Any]:
    """Makes an object's whole amounts Decimal, too: JSON has them as integers."""
    for name, value in answer.items():
        if type(value) is int and (name in _AMOUNTS or name.endswith("PerMToken")):
            answer[name] = Decimal(value)
    return answer


def _said(error: HTTPError) -> str:
    try:
        body = json.loads(error.read())
        said = body.get("error", body)
        return f"{said.get('code')}: {said.get('message')} {said.get('hint') or ''}".strip()
    except (ValueError, AttributeError, OSError):
        return f"HTTP status {error.code}"
