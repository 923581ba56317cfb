"""Records over HTTP: `POST /api/v1/records`, one request at a time, as JSON.

A request's idempotency key is made of its sequence numbers, so a request that is sent again because its answer was lost
counts once. A second thread waits for the answer, so that the sender keeps taking records in.
"""

from __future__ import annotations

import http.client
import json
import queue
import re
import ssl
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Tuple, Union
from urllib.parse import SplitResult, urlsplit

from . import _wire
from ._sender import Broken, Sender

if TYPE_CHECKING:
    from ._recorder import Recorder

_MAX_RECORDS = 4096
_MAX_BYTES = 1 << 20
_PASSING = (408, 409, 425, 429)
"""Statuses of temporary refusals, as 5xx are. Any other refusal lasts until somebody changes something."""

Answer = Tuple[int, bytes, Optional[str]]


class HttpSender(Sender):
    """A sender whose connection is a series of requests. See the module."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(recorder)
        self._max_records, self._max_bytes = _MAX_RECORDS, _MAX_BYTES
        self._asked: Optional[Tuple[int, int]] = None
        """First and last sequence number of the request under way."""
        self._jobs: queue.SimpleQueue[Optional[Tuple[str, bytes]]] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Union[Answer, Exception]] = queue.SimpleQueue()
        self._thread: Optional[threading.Thread] = None

    def _end(self) -> None:
        super()._end()
        self._jobs.put(None)

    def _encoded(self, fields: Mapping[str, Any]) -> bytes:
        return _wire.encode_json(fields)

    def _decoded(self, encoded: bytes) -> Mapping[str, Any]:
        said: Dict[str, Any] = json.loads(encoded)
        return {**said, "id": uuid.UUID(said["id"])}

    def _exchange(self) -> bool:
        if self._asked is None:
            return time.monotonic() >= self._retry_at and self._ask()
        try:
            answer = self._answers.get_nowait()
        except queue.Empty:
            return False
        (first, last), self._asked = self._asked, None
        if isinstance(answer, Exception):
            raise Broken(f"no answer: {answer}")
        self._answered(answer, first, last)
        return True

    def _ask(self) -> bool:
        item = self.window.next(self._max_records, self._max_bytes)
        if item is None:
            return False
        recorder = self._recorder
        # From here on the daemon may have the frame.
        self.window.wrote()
        self._asked = item.first_seq, item.last_seq
        key = f"{recorder.producer}-{recorder.secret}-{item.first_seq}-{len(item.records)}"
        self._jobs.put((re.sub("[^!-~]", "_", key)[-255:], b"[" + b",".join(item.records) + b"]"))
        if self._thread is None:
            self._thread = threading.Thread(target=self._post_all, name="tallyd-http", daemon=True)
            self._thread.start()
        return True

    def _answered(self, answer: Answer, first: int, last: int) -> None:
        status, body, retry_after = answer
        said = _read(body)
        results: List[Any] = said.get("results") or []
        if status in (200, 422) and len(results) == last - first + 1:
            rejected = [{"seq": first + at, **one["error"]} for at, one in enumerate(results) if one.get("error")]
            costs = [one.get("cost_usd") for one in results]
            self._recorder.connected()
            self._take_ack({"seq": last, "rejected": rejected, "costs": costs})
            return
        error = said.get("error") or {}
        reason = str(error.get("message") or body[:200].decode(errors="replace"))
        if status == 422 or (status == 413 and first == last):
            # Sent again it would be refused again, for ever, and hold up the records behind it.
            refused = {"code": error.get("code") or f"http_{status}", "message": reason}
            self._take_ack({"seq": last, "rejected": [{"seq": seq, **refused} for seq in range(first, last + 1)]})
            return
        passes = status >= 500 or status in _PASSING
        raise Broken(
            f"tallyd answered {status}: {reason}", slow=not passes, wait=_seconds(retry_after) if passes else None
        )

    def _connection(self, parts: SplitResult) -> http.client.HTTPConnection:
        host, port, timeout = parts.hostname or "", parts.port, self._recorder.ack_timeout
        if parts.scheme != "https":
            return http.client.HTTPConnection(host, port, timeout=timeout)
        # Read for each connection, so that a renewed authority needs no restart.
        context = ssl.create_default_context(cafile=self._recorder.ca)
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)

    def _post_all(self) -> None:
        """The second thread's body: sends each request, until the end."""
        endpoint, connection = self._recorder.endpoint, None
        parts = urlsplit(endpoint.url or "")
        headers = {"content-type": "application/json", "user-agent": _wire.CLIENT}
        if endpoint.token:
            headers["authorization"] = f"Bearer {endpoint.token}"
        while (job := self._jobs.get()) is not None:
            key, body = job
            try:
                if connection is None:
                    connection = self._connection(parts)
                connection.request("POST", f"{parts.path}/api/v1/records", body, {**headers, "idempotency-key": key})
                answer = connection.getresponse()
                self._answers.put((answer.status, answer.read(), answer.headers.get("retry-after")))
            except Exception as error:
                if connection is not None:
                    connection.close()
                connection = None
                self._answers.put(error)
            self.wake()
        if connection is not None:
            connection.close()


def _read(body: bytes) -> Dict[str, Any]:
    try:
        said = json.loads(body)
    except ValueError:  # Not JSON: the answer comes from a proxy.
        return {}
    return said if isinstance(said, dict) else {}


def _seconds(text: Optional[str]) -> Optional[float]:
    return min(60.0, float(text)) if text is not None and text.isdecimal() else None
