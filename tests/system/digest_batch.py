"""A batch of digests that something happens to while it is signed."""

from __future__ import annotations

import hashlib
import http.client
import json
import time
from typing import Any

from tests.service import Service


class DigestBatch:
    """So many digests, sent to a service under an idempotency key."""

    def __init__(self, service: Service, count: int, key: str) -> None:
        """Send them, and wait until some are signed."""
        self._service = service
        self._key = key
        self._names = [f"hồ sơ {number}" for number in range(count)]
        digests = [hashlib.sha256(name.encode()).hexdigest() for name in self._names]
        items = [{"name": name, "digest": digest} for name, digest in zip(self._names, digests, strict=True)]
        self._body = json.dumps({"items": items}).encode()
        self._place = f"/{self.send()}"
        self._wait(least=1)

    def send(self) -> int:
        """The number of the batch that these digests are under this key."""
        batch = self._ask("POST", "?level=B-B&signer=demo-seal", self._body)
        assert batch["progress"]["total"] == len(self._names)
        number: int = batch["id"]
        return number

    @property
    def done(self) -> int:
        """How many are signed."""
        found: int = self._ask("GET", self._place)["progress"]["done"]
        return found

    def check_end(self) -> None:
        """Wait for its end: every item has come to one result, and sent again it is the same batch."""
        self._wait(least=len(self._names))
        batch = self._ask("GET", self._place)
        assert (batch["state"], batch["progress"]["failed"], batch["progress"]["left"]) == ("done", 0, 0)
        items = self._ask("GET", f"{self._place}/items?limit=1000")["items"]
        assert [item["name"] for item in items] == self._names
        assert len({item["result"]["cms"] for item in items}) == len(self._names)
        assert f"/{self.send()}" == self._place
        assert self._ask("DELETE", self._place)["state"] == "discarded"

    def _wait(self, *, least: int) -> None:
        deadline = time.monotonic() + 90
        while self.done < least:
            assert time.monotonic() < deadline, self._ask("GET", self._place)
            time.sleep(0.02)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._service.port, timeout=60)
        headers = {"Authorization": f"Bearer {self._service.api_key('client')}", "Content-Type": "application/json"}
        try:
            connection.request(method, f"/v1/signatures/batches{path}", body, headers | {"Idempotency-Key": self._key})
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status in (200, 201), said
            found: dict[str, Any] = json.loads(said)
            return found
        finally:
            connection.close()
