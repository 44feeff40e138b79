"""The lines of a turn become events, in order, or the error that the client is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy import errors
from claude_proxy.claude.answer import LONGEST_RETRY_DELAY, Answer
from claude_proxy.claude.stream_json import (
    AssistantLine,
    Delta,
    Line,
    Message,
    RateLimitInfo,
    RateLimitLine,
    ResultLine,
    StreamEvent,
    StreamLine,
    SystemLine,
    Usage,
)
from claude_proxy.conversation import (
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    fold,
)
from claude_proxy.conversation import Usage as Tokens


def start(model: str = "claude-x", **usage: int) -> StreamLine:
    return StreamLine(StreamEvent("message_start", Message(model, Usage(**usage))))


def block(type_: str = "content_block_start") -> StreamLine:
    return StreamLine(StreamEvent(type_))


def delta(**fields: str) -> StreamLine:
    return StreamLine(StreamEvent("content_block_delta", delta=Delta(**fields)))


def say(text: str) -> StreamLine:
    return delta(type="text_delta", text=text)


def think(text: str) -> StreamLine:
    return delta(type="thinking_delta", thinking=text)


def stop(reason: str | None = "end_turn", details=None, **usage) -> StreamLine:
    ending = Delta(stop_reason=reason, stop_details=details)
    return StreamLine(StreamEvent("message_delta", delta=ending, usage=Usage(**usage)))


def retry(delay_ms: float = 500, **fields) -> SystemLine:
    return SystemLine("api_retry", 1, delay_ms, **fields)


OK = ResultLine("success", num_turns=1, total_cost_usd=0.25)
FAILED = ResultLine("success", is_error=True, api_error_status=529, result="API Error: busy")


def feed(answer: Answer, *lines: Line) -> list[Event]:
    return [event for line in lines for event in answer.feed(line)]


def test_a_whole_turn_in_order():
    answer = Answer()
    lines = [
        SystemLine("init"),
        start(input_tokens=3, cache_read_input_tokens=20, output_tokens=1),
        block(),
        think("hm"),
        delta(type="signature_delta"),
        block("content_block_stop"),
        say("Hel"),
        AssistantLine(),
        say("lo"),
        stop(output_tokens=40, output_tokens_details={"thinking_tokens": 8}),
        block("message_stop"),
    ]
    usage = Tokens(input=3, cache_read=20, output=40, reasoning=8)
    assert feed(answer, *lines) == [
        Started("claude-x"),
        ReasoningDelta("hm"),
        TextDelta("Hel"),
        TextDelta("lo"),
        Finished(FinishReason.STOP, usage),
    ]
    assert (answer.finished, answer.settled) == (True, False)
    assert feed(answer, OK) == []
    assert answer.settled
    assert (answer.report.usage, answer.report.cost_usd) == (usage, 0.25)


@pytest.mark.parametrize(
    ("stop_reason", "reason", "goes_on"),
    [
        ("end_turn", FinishReason.STOP, False),
        ("stop_sequence", FinishReason.STOP, False),
        ("pause_turn", FinishReason.STOP, False),
        ("of the future", FinishReason.STOP, False),
        ("max_tokens", FinishReason.LENGTH, True),
        ("model_context_window_exceeded", FinishReason.LENGTH, True),
        ("tool_use", FinishReason.TOOL_CALLS, False),
        ("refusal", FinishReason.REFUSAL, False),
    ],
)
def test_the_stop_reason_is_the_finish_reason(stop_reason, reason, goes_on):
    answer = Answer()
    *_, finished = feed(answer, start(), stop(stop_reason))
    assert finished == Finished(reason, Tokens())
    assert answer.goes_on_by_itself is goes_on


@pytest.mark.parametrize(
    ("details", "explanation"),
    [
        ({"category": "cyber", "explanation": "I may not."}, "I may not."),
        ({"explanation": None}, None),
        ({"explanation": 7}, None),
        (None, None),
    ],
)
def test_a_refusal_may_explain_itself(details, explanation):
    *_, finished = feed(Answer(), start(), stop("refusal", details))
    assert finished == Finished(FinishReason.REFUSAL, Tokens(), explanation)


def test_only_a_refusal_explains_a_refusal():
    *_, finished = feed(Answer(), start(), stop("end_turn", {"explanation": "why I stopped"}))
    assert finished == Finished(FinishReason.STOP, Tokens(), None)


def test_what_comes_after_the_end_of_the_answer_is_not_part_of_it():
    """The CLI may go on by itself, with a synthetic user turn."""
    answer = Answer()
    feed(answer, start(), say("cut"), stop("max_tokens", output_tokens=9))
    assert feed(answer, start(output_tokens=1), say("more"), stop()) == []
    assert feed(answer, FAILED) == []
    assert answer.report.usage.output == 9


def test_what_a_subagent_says_is_not_part_of_the_answer():
    line = say("inner")
    line.parent_tool_use_id = "toolu_1"
    assert feed(Answer(), start(), line) == [Started("claude-x")]


def test_a_stop_reason_of_null_ends_nothing():
    answer = Answer()
    assert feed(answer, start(), stop(None, output_tokens=3)) == [Started("claude-x")]
    assert not answer.finished


@pytest.mark.parametrize("spoken", [say("half"), think("half")])
def test_a_second_try_after_something_was_said_is_an_error(spoken):
    answer = Answer()
    feed(answer, start(), spoken)
    with pytest.raises(errors.BadUpstream, match="broke off"):
        answer.feed(start())


def test_a_second_try_before_anything_was_said_starts_once_only():
    lines = [start(output_tokens=1), block(), retry(), start(input_tokens=5), say("hi"), stop()]
    events = feed(Answer(), *lines)
    assert events[:2] == [Started("claude-x"), TextDelta("hi")]
    assert events[2:] == [Finished(FinishReason.STOP, Tokens(input=5, output=1))]


def test_empty_deltas_are_no_events():
    assert feed(Answer(), say(""), think(""), delta(type="input_json_delta")) == []


def test_later_figures_replace_earlier_ones_and_the_rest_stays():
    answer = Answer()
    feed(answer, start(input_tokens=3, cache_creation_input_tokens=7, output_tokens=1))
    feed(answer, stop(output_tokens=50, input_tokens=0))
    assert answer.report.usage == Tokens(input=0, cache_write=7, output=50)


@pytest.mark.parametrize("details", [None, {}, {"thinking_tokens": None}, {"thinking_tokens": "x"}])
def test_unusable_usage_details_count_no_reasoning(details):
    answer = Answer()
    feed(answer, start(), stop(output_tokens=5, output_tokens_details=details))
    assert answer.report.usage.reasoning == 0


def test_an_end_without_an_answer_is_an_error_even_when_the_cli_calls_it_success():
    answer = Answer()
    with pytest.raises(errors.BadUpstream, match="without an answer"):
        answer.feed(OK)
    assert answer.settled
    assert answer.report.cost_usd == 0.25


def test_a_failed_turn_is_told_by_its_status_and_text():
    answer = Answer()
    answer.feed(AssistantLine("rate_limit"))
    with pytest.raises(errors.Overloaded, match=r"^busy$"):
        answer.feed(FAILED)
    assert answer.settled


def test_without_a_status_a_failed_turn_is_told_by_the_kind_and_errors_of_the_cli():
    answer = Answer()
    answer.feed(AssistantLine("billing_error"))
    line = ResultLine("error_during_execution", is_error=True, errors=["no", "credit"])
    with pytest.raises(errors.InsufficientQuota, match=r"^no; credit$"):
        answer.feed(line)


def test_retries_are_counted_and_the_last_delay_is_told():
    answer = Answer()
    assert feed(answer, retry(500), retry(4_000)) == []
    with pytest.raises(errors.Overloaded) as caught:
        answer.feed(FAILED)
    assert (answer.report.retries, caught.value.retry_after) == (2, 4.0)


@pytest.mark.parametrize(
    ("fields", "cls"),
    [
        ({"error_status": 429, "error": "rate_limit"}, errors.RateLimited),
        ({"error_status": 529, "error": "overloaded"}, errors.Overloaded),
        ({"error_status": None, "error": "overloaded"}, errors.Overloaded),
        ({"error_status": None, "error": "unknown"}, errors.ProxyError),
    ],
)
def test_a_long_wait_for_a_retry_is_passed_on_instead(fields, cls):
    answer = Answer()
    with pytest.raises(errors.ProxyError) as caught:
        answer.feed(retry((LONGEST_RETRY_DELAY + 1) * 1_000, **fields))
    assert type(caught.value) is cls
    assert caught.value.retry_after in (None, LONGEST_RETRY_DELAY + 1)
    assert not answer.settled


def test_a_retry_that_succeeded_has_no_say_in_a_later_failure():
    answer = Answer()
    feed(answer, retry(500, error_status=529, error="overloaded"), start(), say("x"))
    with pytest.raises(errors.ProxyError) as caught:
        answer.feed(ResultLine("error_during_execution", is_error=True, errors=["a bug"]))
    assert caught.value.status == 500


def test_a_rejected_rate_limit_is_told_with_its_reset():
    answer = Answer()
    limit = RateLimitInfo("rejected", 4e9)
    assert feed(answer, RateLimitLine(limit)) == []
    with pytest.raises(errors.RateLimited) as caught:
        answer.feed(ResultLine(is_error=True, result="You've hit your limit"))
    assert caught.value.headers()["x-should-retry"] == "false"


@pytest.mark.parametrize("status", ["allowed", "allowed_warning"])
def test_a_warning_of_a_limit_is_no_limit(status):
    answer = Answer()
    answer.feed(RateLimitLine(RateLimitInfo(status, 4e9)))
    with pytest.raises(errors.Overloaded):
        answer.feed(FAILED)


lines = st.sampled_from(
    [
        *(start(), block(), say("a"), think("b"), say(""), stop(), stop(None), stop("max_tokens")),
        *(AssistantLine(), AssistantLine("unknown"), SystemLine("init"), retry(), OK, FAILED),
    ]
)


@given(st.lists(lines))
def test_any_lines_after_a_start_give_events_in_order_or_an_error(more):
    answer = Answer()
    events: list[Event] = []
    try:
        for line in [start(), *more]:
            events += answer.feed(line)
            if answer.settled:
                break
    except errors.ProxyError:
        assert not answer.finished
    assert events[0] == Started("claude-x")
    assert not any(isinstance(event, Started) for event in events[1:])
    assert [e for e in events if isinstance(e, Finished)] == events[-1:] * answer.finished
    if answer.finished:
        assert fold(events).finished.usage == answer.report.usage


@pytest.mark.parametrize("early", [[say("a")], [stop()], [say("a"), stop()]])
def test_an_answer_that_never_started_is_an_error_not_a_crash(early):
    """Without a start there is no role chunk, and fold raises a bare ValueError."""
    answer = Answer()
    with pytest.raises(errors.ProxyError):
        fold(feed(answer, *early, OK))
