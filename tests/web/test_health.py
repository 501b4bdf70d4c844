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
def test_a_failed_part_that_all_work_needs_is_a_503_that_names_it(database: Database, check: Check, status: int) -> None:
    app: Any = falcon.App(middleware=[Shell(access=ApiKeys(database=database), body_limit=1000)])
    problems.install(app)
    app.add_route("/healthz", Liveness())
    app.add_route("/readyz", Ready({"database": _works, "hsm": check}, {"clock": _works_on_something, "moon": _is_away}))
    client = testing.TestClient(app)
    answer = client.simulate_get("/readyz")
    assert answer.status_code == status
    if status == 200:
        parts = answer.json["parts"]
        assert {name for name, part in parts.items() if part["status"] == "ok"} == {"database", "hsm", "clock"}
        assert parts["clock"]["detail"] == "the kernel's clock"
        assert parts["moon"] == {"status": "failed", "detail": "the token is not there"}
    else:
        assert answer.json["detail"] == "hsm: the token is not there"
        assert "retry-after" in answer.headers
    assert client.simulate_get("/healthz").json == {"status": "ok"}
