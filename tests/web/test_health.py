"""Liveness touches nothing; readiness names what does not work."""

from __future__ import annotations

from typing import Any

import falcon
import pytest
from falcon import testing

from core.db import Database
from core.errors import Unavailable
from web import problems
from web.access import ApiKeys, Shell
from web.health import Check, Liveness, Ready


def _works() -> str | None:
    return None


def _works_on_something() -> str | None:
    return "the kernel's clock"


def _is_away() -> str | None:
    raise Unavailable("hsm", "the token is not there")


@pytest.mark.parametrize(("check", "status"), [(_works, 200), (_is_away, 503)])
def test_one_failed_part_is_a_503_that_names_it(database: Database, check: Check, status: int) -> None:
    app: Any = falcon.App(middleware=[Shell(access=ApiKeys(database=database), body_limit=1000)])
    problems.install(app)
    app.add_route("/healthz", Liveness())
    app.add_route("/readyz", Ready({"database": _works, "clock": _works_on_something, "hsm": check}))
    client = testing.TestClient(app)
    answer = client.simulate_get("/readyz")
    assert answer.status_code == status
    if status == 200:
        assert answer.json == {"status": "ready", "parts": {"database": "", "clock": "the kernel's clock", "hsm": ""}}
    else:
        assert answer.json["detail"] == "hsm: the token is not there"
        assert "retry-after" in answer.headers
    assert client.simulate_get("/healthz").json == {"status": "ok"}
