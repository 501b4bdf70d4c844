"""Damaged uploads of every kind, from several clients at once: every one gets an answer, none a server error, and life goes on.

The same for hours: `make fuzz-http`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.fuzz_http import Run, find_fault, send
from bench.fuzz_requests import Request
from bench.load import SAMPLE_PDF
from signer.options import PdfOptions
from tests.service import Service

pytestmark = pytest.mark.slow
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)
MEANT: dict[str, st.SearchStrategy[Any]] = {
    "level": st.sampled_from(("B-B", "B-T")),
    "page": st.integers(0, 3),
    "rectangle": st.tuples(*[st.floats(-10, 900).map(lambda value: round(value, 2))] * 4).map(lambda box: ",".join(map(str, box))),
    "profile": st.sampled_from(("plain", "person", "comment", "portal", "incoming", "agency-issue")),
    "certify": st.sampled_from(("nothing", "forms", "annotations")),
    "issued_on": st.dates().map(str),
    "qr": st.booleans(),
}
"""Values that mean something; the other options are texts."""


def options() -> st.SearchStrategy[dict[str, Any]]:
    """What may stand in the part `options`: some that mean something, some of any type, and now and then one nobody knows."""
    values = {name: MEANT.get(name, st.text(max_size=250)) for name in PdfOptions.model_fields if name != "signer"}
    each = {name: st.one_of(value, value, value, JSON) for name, value in values.items()}
    few = st.lists(st.sampled_from(sorted(each)), max_size=4, unique=True)
    chosen = few.flatmap(lambda names: st.fixed_dictionaries({name: each[name] for name in names}))
    return st.one_of(chosen, chosen, chosen, st.dictionaries(st.text(max_size=9), JSON, max_size=3))


def test_damaged_uploads_are_answered_and_the_service_lives_on(service: Service, tmp_path: Path) -> None:
    tally = Run(service, seed=5, clients=2, keep=tmp_path / "kept").fire(seconds=120, requests=50)
    assert not tally.broken
    assert tally.count == 100
    assert {200, 400, 422} <= {status for _, status in tally.statuses}


@given(given_options=options())
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
def test_any_options_are_taken_or_refused_by_name(service: Service, given_options: dict[str, Any]) -> None:
    parts = {"document": SAMPLE_PDF, "options": json.dumps(given_options).encode()}
    named = (
        b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name.encode(), part) for name, part in parts.items()
    )
    form = b"".join(named) + b"--x--\r\n"
    headers = (("Content-Type", "multipart/form-data; boundary=x"), ("Content-Length", str(len(form))))
    request = Request("options", "/v1/signatures/pdf", "client", headers, form, document=SAMPLE_PDF)
    began = time.monotonic()
    answer = send(service, request.encode(service.api_key("client")), honest=True)
    assert find_fault(request, answer, time.monotonic() - began) is None
    if answer.status == 422:
        assert json.loads(answer.body)["violations"][0]["field"] != ""
