"""The lines of a turn become events, in order, or the error that the client is told."""

from __future__ import annotations

import copy
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy import errors
from claude_proxy.claude.answer import LONGEST_RETRY_DELAY, REFUSED, Answer, Call, Spent
from claude_proxy.claude.stream_json import (
    AssistantLine,
    ContentBlock,
    Delta,
    Line,
    Message,
    ModelUsage,
    RateLimitInfo,
    RateLimitLine,
    ResultLine,
    StreamEvent,
    StreamLine,
    SystemLine,
    Usage,
)
from claude_proxy.claude.tools import ToolNames
from claude_proxy.conversation import (
    ArgumentsDelta,
    Citation,
    Conversation,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    TextDone,
    Tool,
    ToolCall,
    ToolCallStarted,
    fold,
)
from claude_proxy.conversation import Usage as Tokens

AWKWARD = "search the web"
NAMES = ToolNames(Conversation("m", "", (), tools=(Tool("f", "{}"), Tool(AWKWARD, "{}"))))


def start(model: str = "claude-x", id_: str = "", **usage: int) -> StreamLine:
    return StreamLine(StreamEvent("message_start", Message(model, Usage(**usage), id_)))


def block(type_: str = "content_block_start") -> StreamLine:
    return StreamLine(StreamEvent(type_))


def delta(**fields: str) -> StreamLine:
    return StreamLine(StreamEvent("content_block_delta", delta=Delta(**fields)))


def say(text: str) -> StreamLine:
    return delta(type="text_delta", text=text)


def think(text: str) -> StreamLine:
    return delta(type="thinking_delta", thinking=text)


def call(id_: str, name: str, **arguments) -> StreamLine:
    """The beginning; arguments come here only from a CLI that has them at once."""
    begun = ContentBlock("tool_use", id_, name, arguments)
    return StreamLine(StreamEvent("content_block_start", content_block=begun))


def argue(text: str) -> StreamLine:
    return delta(type="input_json_delta", partial_json=text)


def stop(reason: str | None = "end_turn", details=None, at=None, **usage) -> StreamLine:
    ending = Delta(stop_reason=reason, stop_details=details, stop_sequence=at)
    return StreamLine(StreamEvent("message_delta", delta=ending, usage=Usage(**usage)))


def retry(delay_ms: float = 500, **fields) -> SystemLine:
    return SystemLine("api_retry", attempt=1, retry_delay_ms=delay_ms, **fields)


OK = ResultLine("success", num_turns=1, total_cost_usd=0.25)
FAILED = ResultLine("success", is_error=True, api_error_status=529, result="API Error: busy")


def feed(answer: Answer, *lines: Line) -> list[Event]:
    return [event for line in lines for event in answer.feed(line)]


def test_a_whole_turn_in_order():
    answer = Answer(NAMES)
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
        Started("claude-x", usage=Tokens(input=3, cache_read=20, output=1)),
        ReasoningDelta("hm"),
        TextDelta("Hel"),
        TextDelta("lo"),
        TextDone(),
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
        ("model_context_window_exceeded", FinishReason.CONTEXT_FULL, True),
        ("tool_use", FinishReason.STOP, True),
        ("refusal", FinishReason.REFUSAL, False),
    ],
)
def test_the_stop_reason_is_the_finish_reason(stop_reason, reason, goes_on):
    answer = Answer(NAMES)
    *_, finished = feed(answer, start(), say("x"), stop(stop_reason))
    refusal = REFUSED if reason is FinishReason.REFUSAL else None
    assert finished == Finished(reason, Tokens(), refusal)
    assert answer.goes_on_by_itself is goes_on


@pytest.mark.parametrize("stop_reason", ["tool_use", "end_turn", "pause_turn", "stop_sequence"])
def test_an_answer_with_calls_ends_in_them(stop_reason):
    answer = Answer(NAMES)
    *_, finished = feed(answer, start(), call("t", "f"), stop(stop_reason))
    assert finished == Finished(FinishReason.TOOL_CALLS, Tokens())
    assert not answer.goes_on_by_itself


@pytest.mark.parametrize("said", [[], [say(" \n")], [say("\ufeff")], [think("hm")]])
@pytest.mark.parametrize("stop_reason", ["tool_use", "end_turn", "pause_turn"])
def test_an_answer_of_which_nothing_can_be_seen_is_not_asked_for_anew(said, stop_reason):
    answer = Answer(NAMES)
    *_, finished = feed(answer, start(), *said, stop(stop_reason))
    assert finished == Finished(FinishReason.STOP, Tokens())
    assert answer.goes_on_by_itself


@pytest.mark.parametrize("said", [say("x"), call("t", "f")])
def test_a_stream_that_stops_in_its_middle_has_broken_off(said):
    answer = Answer(NAMES)
    feed(answer, start(), said)
    with pytest.raises(errors.BadUpstream):
        answer.feed(block("message_stop"))
    assert answer.goes_on_by_itself


def test_a_stream_that_stops_before_anything_was_said_may_be_tried_again():
    answer = Answer(NAMES)
    said = feed(answer, start(), block("message_stop"), start(), say("x"), stop())
    assert [type(event) for event in said] == [Started, TextDelta, TextDone, Finished]


@pytest.mark.parametrize(
    ("details", "explanation"),
    [
        ({"category": "cyber", "explanation": "I may not."}, "I may not."),
        ({"explanation": ""}, REFUSED),
        ({"explanation": None}, REFUSED),
        ({"explanation": 7}, REFUSED),
        (None, REFUSED),
    ],
)
def test_a_refusal_may_explain_itself(details, explanation):
    *_, finished = feed(Answer(NAMES), start(), stop("refusal", details))
    assert finished == Finished(FinishReason.REFUSAL, Tokens(), explanation)


def test_only_a_refusal_explains_a_refusal():
    *_, finished = feed(Answer(NAMES), start(), stop("end_turn", {"explanation": "why I stopped"}))
    assert finished == Finished(FinishReason.STOP, Tokens(), None)


def test_what_comes_after_the_end_of_the_answer_is_not_part_of_it():
    """The CLI may go on by itself, with a synthetic user turn."""
    answer = Answer(NAMES)
    feed(answer, start(), say("cut"), stop("max_tokens", output_tokens=9))
    assert feed(answer, start(output_tokens=1), say("more"), stop()) == []
    assert feed(answer, FAILED) == []
    assert answer.report.usage.output == 9


@pytest.mark.parametrize("line", [say("inner"), call("a", "f"), stop()])
def test_what_a_subagent_says_is_not_part_of_the_answer(line):
    line = copy.deepcopy(line)
    line.parent_tool_use_id = "toolu_1"
    assert feed(Answer(NAMES), start(), line) == [Started("claude-x")]


def test_a_stop_reason_of_null_ends_nothing():
    answer = Answer(NAMES)
    assert feed(answer, start(), stop(None, output_tokens=3)) == [Started("claude-x")]
    assert not answer.finished


@pytest.mark.parametrize("spoken", [say("half"), think("half"), call("a", "f")])
def test_a_second_try_after_something_was_said_is_an_error(spoken):
    answer = Answer(NAMES)
    feed(answer, start(), spoken)
    with pytest.raises(errors.BadUpstream, match="broke off"):
        answer.feed(start())


def test_a_second_try_before_anything_was_said_starts_once_only():
    lines = [start(output_tokens=1), block(), retry(), start(input_tokens=5), say("hi"), stop()]
    events = feed(Answer(NAMES), *lines)
    assert events == [
        Started("claude-x", usage=Tokens(output=1)),
        TextDelta("hi"),
        TextDone(),
        Finished(FinishReason.STOP, Tokens(input=5, output=1)),
    ]


def test_empty_deltas_are_no_events():
    assert feed(Answer(NAMES), say(""), think(""), delta(type="input_json_delta")) == []


def test_later_figures_replace_earlier_ones_and_the_rest_stays():
    answer = Answer(NAMES)
    feed(answer, start(input_tokens=3, cache_creation_input_tokens=7, output_tokens=1))
    feed(answer, stop(output_tokens=50, input_tokens=0))
    assert answer.report.usage == Tokens(input=0, cache_write=7, output=50)


@pytest.mark.parametrize("details", [None, {}, {"thinking_tokens": None}, {"thinking_tokens": "x"}])
def test_unusable_usage_details_count_no_reasoning(details):
    answer = Answer(NAMES)
    feed(answer, start(), stop(output_tokens=5, output_tokens_details=details))
    assert answer.report.usage.reasoning == 0


def test_an_end_without_an_answer_is_an_error_even_when_the_cli_calls_it_success():
    answer = Answer(NAMES)
    with pytest.raises(errors.BadUpstream, match="without an answer"):
        answer.feed(OK)
    assert answer.settled
    assert answer.report.cost_usd == 0.25


def test_a_failed_turn_is_told_by_its_status_and_text():
    answer = Answer(NAMES)
    answer.feed(AssistantLine("rate_limit"))
    with pytest.raises(errors.Overloaded, match=r"^busy$"):
        answer.feed(FAILED)
    assert answer.settled


def test_without_a_status_a_failed_turn_is_told_by_the_kind_and_errors_of_the_cli():
    answer = Answer(NAMES)
    answer.feed(AssistantLine("billing_error"))
    line = ResultLine("error_during_execution", is_error=True, errors=["no", "credit"])
    with pytest.raises(errors.InsufficientQuota, match=r"^no; credit$"):
        answer.feed(line)


def test_retries_are_counted_and_the_last_delay_is_told():
    answer = Answer(NAMES)
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
    answer = Answer(NAMES)
    with pytest.raises(errors.ProxyError) as caught:
        answer.feed(retry((LONGEST_RETRY_DELAY + 1) * 1_000, **fields))
    assert type(caught.value) is cls
    assert caught.value.retry_after in (None, LONGEST_RETRY_DELAY + 1)
    assert not answer.settled


def test_a_retry_that_succeeded_has_no_say_in_a_later_failure():
    answer = Answer(NAMES)
    feed(answer, retry(500, error_status=529, error="overloaded"), start(), say("x"))
    with pytest.raises(errors.ProxyError) as caught:
        answer.feed(ResultLine("error_during_execution", is_error=True, errors=["a bug"]))
    assert caught.value.status == 500


def test_a_rejected_rate_limit_is_told_with_its_reset():
    answer = Answer(NAMES)
    limit = RateLimitInfo("rejected", 4e9)
    assert feed(answer, RateLimitLine(limit)) == []
    with pytest.raises(errors.RateLimited) as caught:
        answer.feed(ResultLine(is_error=True, result="You've hit your limit"))
    assert caught.value.headers()["x-should-retry"] == "false"


@pytest.mark.parametrize("status", ["allowed", "allowed_warning"])
def test_a_warning_of_a_limit_is_no_limit(status):
    answer = Answer(NAMES)
    answer.feed(RateLimitLine(RateLimitInfo(status, 4e9)))
    with pytest.raises(errors.Overloaded):
        answer.feed(FAILED)


lines = st.sampled_from(
    [
        *(start(), block(), say("a"), think("b"), say(""), stop(), stop(None), stop("max_tokens")),
        *(call("a", "f"), call("b", "g", x=1), argue('{"x"'), block("content_block_stop")),
        *(AssistantLine(), AssistantLine("unknown"), SystemLine("init"), retry(), OK, FAILED),
    ]
)


@given(st.lists(lines))
def test_any_lines_after_a_start_give_events_in_order_or_an_error(more):
    answer = Answer(NAMES)
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


@pytest.mark.parametrize("early", [[say("a")], [stop()], [say("a"), stop()], [call("a", "f")]])
def test_an_answer_that_never_started_is_an_error_not_a_crash(early):
    """Without a start there is no role chunk, and fold raises a bare ValueError."""
    answer = Answer(NAMES)
    with pytest.raises(errors.ProxyError):
        fold(feed(answer, *early, OK))


# Tool calls

END = block("content_block_stop")


def test_a_call_is_its_start_and_the_fragments_of_its_arguments():
    answer = Answer(NAMES)
    call_ = [call("toolu_1", "f"), argue('{"a"'), argue(": 1}"), END]
    lines = [start(), say("Let me see."), END, *call_]
    _, *said, started, _, _, _ = events = feed(answer, *lines, stop("tool_use", output_tokens=9))
    rest = events[-3:]
    assert said == [TextDelta("Let me see."), TextDone()]
    assert isinstance(started, ToolCallStarted)
    assert rest == [
        ArgumentsDelta('{"a"'),
        ArgumentsDelta(": 1}"),
        Finished(FinishReason.TOOL_CALLS, Tokens(output=9)),
    ]
    assert answer.calls == [Call("toolu_1", "f", started.id)]
    assert (answer.finished, answer.settled, answer.goes_on_by_itself) == (True, False, False)


@pytest.mark.parametrize("fragments", [[], [""], [" ", "\n"]])
def test_a_call_without_arguments_has_an_empty_object(fragments):
    lines = [start(), call("a", "f"), *map(argue, fragments), END, stop("tool_use")]
    (made,) = fold(feed(Answer(NAMES), *lines)).calls
    assert json.loads(made.arguments) == {}


def test_a_call_that_was_not_closed_is_closed_by_the_end_of_the_answer():
    (made,) = fold(feed(Answer(NAMES), start(), call("a", "f"), stop("tool_use"))).calls
    assert made.arguments == "{}"


def test_arguments_that_come_at_once_are_passed_on():
    lines = [start(), call("a", "f", x=[1, None]), END, stop("tool_use")]
    (made,) = fold(feed(Answer(NAMES), *lines)).calls
    assert json.loads(made.arguments) == {"x": [1, None]}


def test_several_calls_keep_their_order_and_their_own_arguments():
    answer = Answer(NAMES)
    lines = [
        *(start(), call("a", "f"), argue('{"n":1}'), END),
        *(call("b", "f"), END),
        *(call("c", "f"), argue('{"n"'), argue(":3}"), END, stop("tool_use")),
    ]
    made = fold(feed(answer, *lines)).calls
    assert [one.arguments for one in made] == ['{"n":1}', "{}", '{"n":3}']
    assert [one.api_id for one in answer.calls] == ["a", "b", "c"]
    assert [one.id for one in answer.calls] == [one.id for one in made]
    assert len({one.id for one in made}) == 3


def test_an_id_has_letters_and_digits_only():
    (made,) = fold(feed(Answer(NAMES), start(), call("toolu_01-x", "f"), stop("tool_use"))).calls
    assert re.fullmatch(r"[a-zA-Z0-9]{16,}", made.id)


@pytest.mark.parametrize(
    ("api_name", "name"),
    [("f", "f"), (NAMES.to_api(AWKWARD), AWKWARD), ("Unheard_of", "Unheard_of")],
    ids=["same", "awkward", "unknown"],
)
def test_a_call_bears_the_name_that_the_client_knows(api_name, name):
    answer = Answer(NAMES)
    events = feed(answer, start(), call("a", api_name), stop("tool_use"))
    (made,) = answer.calls
    assert made.name == api_name
    assert fold(events).calls == (ToolCall(made.id, name, "{}"),)


def test_a_fragment_outside_of_a_call_is_no_event():
    answer = Answer(NAMES)
    lines = [start(), argue('{"server": 1}'), call("a", "f"), argue("{}"), END, argue("late")]
    (made,) = fold(feed(answer, *lines, stop("tool_use"))).calls
    assert made.arguments == "{}"


def test_other_blocks_than_calls_are_no_calls():
    begun = ContentBlock("server_tool_use", "a", "web_search", {})
    line = StreamLine(StreamEvent("content_block_start", content_block=begun))
    answer = Answer(NAMES)
    assert feed(answer, start(), line) == [Started("claude-x")]
    assert answer.calls == []


# What a process has spent is counted over all of its turns


def test_a_turn_is_told_its_own_share_of_what_its_process_has_spent():
    first = Answer(NAMES)
    end = ResultLine("success", total_cost_usd=0.25, modelUsage={"m": ModelUsage(9)})
    feed(first, start(), stop(output_tokens=9), end)
    assert first.spent == Spent(0.25, 9)
    second = Answer(NAMES, first.spent)
    used = {"m": ModelUsage(12), "haiku": ModelUsage(1)}
    end = ResultLine("success", total_cost_usd=0.75, modelUsage=used)
    feed(second, start(), stop(output_tokens=4), end)
    assert second.spent == Spent(0.75, 13)
    assert (second.report.cost_usd, second.report.usage.output) == (0.5, 4)


def test_of_an_answer_that_was_cut_the_end_tells_what_it_had_said():
    answer = Answer(NAMES, Spent(0.5, 100))
    feed(answer, start(output_tokens=1), say("half"))
    end = ResultLine(is_error=True, total_cost_usd=0.75, modelUsage={"m": ModelUsage(140)})
    with pytest.raises(errors.ProxyError):
        answer.feed(end)
    assert (answer.report.cost_usd, answer.report.usage.output) == (0.25, 40)


def test_until_its_end_a_turn_has_spent_what_was_spent_before():
    answer = Answer(NAMES, Spent(0.5, 100))
    feed(answer, start(), say("half"))
    assert answer.spent == Spent(0.5, 100)
    assert answer.report.cost_usd is None


def test_the_message_has_the_id_that_the_api_gave_it():
    assert feed(Answer(NAMES), start(id_="msg_7")) == [Started("claude-x", "msg_7")]


def test_a_stop_sequence_is_named():
    *_, finished = feed(Answer(NAMES), start(), say("x"), stop("stop_sequence", at="END"))
    assert finished == Finished(FinishReason.STOP, Tokens(), None, "END")


def test_a_citation_is_passed_on_where_it_stands():
    where = {"type": "char_location", "cited_text": "So."}
    lines = [block(), say("So."), delta(type="citations_delta", citation=where), END]
    said = feed(Answer(NAMES), start(), *lines, *lines)[1:]
    once = [TextDelta("So."), Citation(json.dumps(where, separators=(",", ":"))), TextDone()]
    assert said == once * 2
