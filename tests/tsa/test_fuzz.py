"""The reader of requests under mutated DER, a bounded piece of `make fuzz`."""

from __future__ import annotations

from bench.fuzz_tsa import SLOWEST, fuzz


def test_mutated_requests_end_in_a_query_or_a_refusal_in_bounded_time() -> None:
    outcomes, slowest, found = fuzz(20_000, seed=20_261)
    assert found == []
    assert slowest < SLOWEST
    assert {"granted", "BAD_DATA_FORMAT", "BAD_REQUEST", "BAD_ALG", "UNACCEPTED_POLICY", "UNACCEPTED_EXTENSION"} <= set(outcomes)
