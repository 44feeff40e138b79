"""The prompt cache model: what is read, written and billed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.simulator.cache import (
    InputUsage,
    PromptCache,
    count_tokens,
    minimum_tokens,
    text_tokens,
)

Json = dict[str, Any]
MARK = {"type": "ephemeral"}
LONG = "x" * 8000  # 2000 tokens, 2004 with its block


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> PromptCache:
    return PromptCache(clock)


def text(words: str, mark: Json | None = None) -> Json:
    return {"type": "text", "text": words, **({"cache_control": mark} if mark else {})}


def request(*turns: Any, **more: Any) -> Json:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)]
    return {"model": "claude-sonnet-4-5", "messages": messages, **more}


def test_without_a_mark_all_is_uncached(cache: PromptCache) -> None:
    for _ in range(2):
        assert cache.account(request(LONG)) == InputUsage(2004)


def test_the_same_prompt_is_written_then_read(cache: PromptCache) -> None:
    body = request([text(LONG, MARK), text("tail")])
    assert cache.account(body) == InputUsage(5, written_5m=2004)
    assert cache.account(body) == InputUsage(5, read=2004)


def test_a_longer_conversation_reads_the_earlier_mark_and_writes_the_rest(
    cache: PromptCache,
) -> None:
    cache.account(request([text(LONG, MARK)]))
    longer = request([text(LONG)], "answer", [text("more", MARK)])
    assert cache.account(longer) == InputUsage(0, read=2004, written_5m=11)


def test_a_string_and_its_text_block_are_the_same_prompt(cache: PromptCache) -> None:
    cache.account(request([text(LONG, MARK)]))
    assert cache.account(request(LONG, "answer", [text("m", MARK)])).read == 2004


def test_a_short_prefix_is_not_cached(cache: PromptCache) -> None:
    body = request([text("x" * 4000, MARK)])
    assert cache.account(body) == InputUsage(1004)
    assert cache.account(body) == InputUsage(1004)
    assert len(cache) == 0


def test_lookback_is_20_blocks(cache: PromptCache) -> None:
    cache.account(request([text(LONG, MARK)]))
    near = [text(LONG), *(text(str(n)) for n in range(18)), text("end", MARK)]
    far = [text(LONG), *(text(str(n)) for n in range(19)), text("end", MARK)]
    assert PromptCache.account(cache, request(far)).read == 0
    assert PromptCache.account(cache, request(near)).read == 2004


def test_five_minutes_and_a_read_renews(cache: PromptCache, clock: Clock) -> None:
    body = request([text(LONG, MARK)])
    cache.account(body)
    for _ in range(3):
        clock.now += 299
        assert cache.account(body).read == 2004
    clock.now += 300
    assert cache.account(body) == InputUsage(0, written_5m=2004)


def test_an_hour(cache: PromptCache, clock: Clock) -> None:
    body = request([text(LONG, {"type": "ephemeral", "ttl": "1h"})])
    assert cache.account(body) == InputUsage(0, written_1h=2004)
    clock.now += 3599
    assert cache.account(body).read == 2004


def test_both_lifetimes_in_one_prompt(cache: PromptCache) -> None:
    hour = {"type": "ephemeral", "ttl": "1h"}
    usage = cache.account(request([text(LONG, hour), text(LONG, MARK), text("t")]))
    assert usage == InputUsage(5, written_5m=2004, written_1h=2004)


@pytest.mark.parametrize(
    "change",
    [{"thinking": {"type": "adaptive"}}, {"tool_choice": {"type": "none"}}],
)
def test_settings_invalidate_the_messages_only(cache: PromptCache, change: Json) -> None:
    body = request([text(LONG, MARK)], system=[text(LONG, MARK)])
    cache.account(body)
    usage = cache.account({**body, **change})
    assert (usage.read, usage.written) == (2004, 2004)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "claude-sonnet-4-6"},
        {"tools": [{"name": "t", "input_schema": {"type": "object"}}]},
        {"system": "another"},
    ],
)
def test_what_comes_first_invalidates_all(cache: PromptCache, change: Json) -> None:
    body = request([text(LONG, MARK)], system=[text("s")])
    cache.account(body)
    assert cache.account({**body, **change}).read == 0


def test_key_order_matters_inside_a_block_only(cache: PromptCache) -> None:
    def called(block: Json) -> Json:
        result = {"type": "tool_result", "tool_use_id": "t", "content": "r", "cache_control": MARK}
        return request(LONG, [block], [result])

    call = {"type": "tool_use", "id": "t", "name": "n", "input": {"a": 1, "b": 2}}
    written = cache.account(called(call)).written
    assert cache.account(called(dict(reversed(call.items())))).read == written
    assert cache.account(called({**call, "input": {"b": 2, "a": 1}})).read == 0


def test_a_mark_on_the_request_is_one_on_its_last_block(cache: PromptCache) -> None:
    body = request([text(LONG), text("end")], cache_control=MARK)
    assert cache.account(body).written == 2009
    assert cache.account(body).read == 2009


def test_the_number_of_entries_is_bounded(clock: Clock) -> None:
    cache = PromptCache(clock, max_entries=3)
    for number in range(10):
        cache.account(request([text(f"{number}{LONG}", MARK)]))
    assert len(cache) == 3


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("claude-opus-4-1-20250805", 1024),
        ("claude-opus-4-20250514", 1024),
        ("claude-opus-4-5", 4096),
        ("claude-opus-4-5-20251101", 4096),
        ("claude-opus-5-5", 4096),
        ("claude-haiku-4-5", 4096),
        ("claude-3-5-haiku-20241022", 1024),
        ("claude-sonnet-4-6", 1024),
    ],
)
def test_minimum(model: str, tokens: int) -> None:
    assert minimum_tokens(model) == tokens


def test_tokens_of_other_blocks() -> None:
    image = {"type": "image", "source": {"type": "base64", "data": "AAAA"}}
    document = {"type": "document", "source": {"type": "base64", "data": "A" * 400}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [text("abcd"), image]}
    assert count_tokens(request([image])) == 1504
    assert count_tokens(request([document])) == 104
    assert count_tokens(request([result])) == 4 + 5 + 1504


words = st.text(max_size=12_000)
turns = st.lists(st.tuples(words, st.booleans()), min_size=1, max_size=5)


@given(turns, turns)
def test_the_parts_add_up_to_the_prompt(first: Any, second: Any) -> None:
    cache = PromptCache(Clock())
    for chosen in (first, second, first + second):
        marks = 0
        blocks = []
        for piece, mark in chosen:
            marks += mark
            blocks.append(text(piece, MARK if mark and marks <= 4 else None))
        body = request(blocks)
        usage = cache.account(body)
        assert usage.uncached + usage.read + usage.written == count_tokens(body)
        assert min(usage.uncached, usage.read, usage.written) >= 0
        again = cache.account(body)
        assert again.written == 0
        assert again.read == usage.read + usage.written


@given(st.text())
def test_text_tokens(words: str) -> None:
    assert 4 * text_tokens(words) - 4 < len(words.encode()) <= 4 * text_tokens(words)
