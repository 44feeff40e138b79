"""What Prometheus is shown of requests: every value in its bucket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from claude_proxy.clients import Client
from claude_proxy.http.exchange import Exchange
from claude_proxy.measures import Distribution, Measures

BOUNDS = (0.1, 1, 10)


@given(st.lists(st.floats(0, 100)))
def test_a_bucket_counts_what_is_at_most_its_bound(values):
    distribution = Distribution(BOUNDS)
    for value in values:
        distribution.add(value)
    expected = [(str(float(bound)), sum(one <= bound for one in values)) for bound in BOUNDS]
    assert distribution.cumulative() == [*expected, ("+Inf", len(values))]
    assert distribution.sum == pytest.approx(sum(values))


def test_a_request_is_counted_by_what_the_program_calls_it_not_by_what_a_client_does():
    measures = Measures()
    exchange = Exchange(Headers({}))
    exchange.route, exchange.status = "/models", 200
    exchange.client = Client("phone", b"")
    for method in ("GET", "BREW", "PATCH"):
        measures.request_done(method, exchange)
    assert measures.requests == {
        ("/models", "GET", "200", "phone"): 1,
        ("/models", "other", "200", "phone"): 2,
    }


def test_waits_and_first_tokens_are_measured_where_there_was_a_turn():
    measures = Measures()
    without, with_turn = Exchange(Headers({})), Exchange(Headers({}))
    with_turn.fields |= {"ttft_ms": 120.0, "queue_ms": 30.0, "process": "spare"}
    for exchange in (without, with_turn):
        measures.request_done("POST", exchange)
    assert measures.waits.sum == 0.03
    assert measures.first_tokens["spare"].sum == 0.12
    assert measures.durations["unknown"].cumulative()[-1] == ("+Inf", 2)
