"""HTTP to one Condau: a connection for each request, and patience while the service is away."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from condau_client.errors import Unavailable, error_of

_RETRIED: Final = (429, 503)
_LONGEST_ANSWER: Final = 1 << 30
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is no error; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """Sends requests that may be sent twice, until they are answered or the patience is used up."""

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        timeout: float = 60.0,
        patience: float = 60.0,
        tls: ssl.SSLContext | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``timeout``: seconds of silence after which a request is given up and sent again; ``patience``: seconds in all."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no address of a service: it begins with https:// (or http:// on the same machine)")
        self._host, self._port, self._prefix = parts.hostname, parts.port, parts.path.rstrip("/")
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._timeout = timeout
        self._patience = patience
        self._sleep = sleep

    def request(self, method: str, path: str, body: bytes | None = None, *, headers: Mapping[str, str] | None = None) -> Answer:
        """The answer, once there is one that is no error; raises the errors of :mod:`condau_client.errors`.

        What is sent must bear to be sent twice: sent again is whatever was not answered, or with 429 or 503.
        """
        deadline = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            error, wait = self._try(method, path, body, {**self._headers, **(headers or {})})
            if isinstance(error, Answer):
                return error
            wait = pause if wait is None else wait
            if time.monotonic() + wait > deadline:
                raise error
            self._sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _try(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[Answer | Unavailable, float | None]:
        """The answer, or why there is none yet and how long the service asks to wait; any other error is raised."""
        connection = self._connect()
        try:
            connection.request(method, self._prefix + path, body, dict(headers))
            response = connection.getresponse()
            answered = {name.lower(): value for name, value in response.getheaders()}
            answer = Answer(response.status, answered, response.read(_LONGEST_ANSWER))
        except (OSError, http.client.HTTPException) as error:
            return Unavailable(f"{self._host} does not answer: {error!r}"), None
        finally:
            connection.close()
        if answer.status < 300:
            return answer, None
        problem = error_of(answer.status, answer.body)
        if answer.status not in _RETRIED or not isinstance(problem, Unavailable):
            raise problem
        after = answer.headers.get("retry-after", "")
        return problem, float(after) if after.isdecimal() else None

    def _connect(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._tls)
