"""The last requests: so many, and nothing of what was said in them."""

from __future__ import annotations

import msgspec
import pytest
from starlette.datastructures import Headers

from claude_proxy.clients import Client
from claude_proxy.http.exchange import Exchange
from claude_proxy.page.recent import MOST, Done, Recent

SAID = "what nobody else may read"


def exchange(**fields) -> Exchange:
    made = Exchange(Headers({"x-request-id": "req_1"}))
    made.client, made.route, made.status = Client("phone", b""), "/chat/completions", 200
    made.fields |= fields
    return made


def test_of_a_request_is_kept_what_is_named_and_nothing_else():
    recent = Recent()
    recent.add("POST", exchange(model="sonnet", ttft_ms=1.5, cost_usd=0.25, said=SAID, prompt=SAID))
    (done,) = recent()
    assert (done.client, done.route, done.status) == ("phone", "/chat/completions", 200)
    assert (done.model, done.ttft_ms, done.cost_usd) == ("sonnet", 1.5, 0.25)
    assert SAID.encode() not in msgspec.json.encode(done)
    assert msgspec.json.decode(msgspec.json.encode(done), type=Done) == done


def test_only_the_last_ones_are_kept_the_newest_first():
    recent = Recent()
    for number in range(MOST + 5):
        recent.add("POST", exchange(output_tokens=number))
    assert [done.output_tokens for done in recent()] == list(range(MOST + 4, 4, -1))


@pytest.mark.parametrize(("quiet", "route"), [(True, "/health"), (False, "/metrics")])
def test_what_machines_ask_all_the_time_is_left_out(quiet, route):
    recent = Recent()
    one = exchange()
    one.quiet, one.route = quiet, route
    recent.add("GET", one)
    assert recent() == []


def test_a_method_that_a_client_makes_up_is_not_kept_and_nobody_left_is_no_status():
    recent = Recent()
    one = exchange()
    one.status = None
    recent.add(SAID, one)
    assert (recent()[0].method, recent()[0].status) == ("other", 0)
