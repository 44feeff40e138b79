"""Structured output: nothing of it goes out before the CLI has approved, and then once."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy import errors
from claude_proxy.claude.answer import Spent
from claude_proxy.claude.stream_json import (
    ContentBlock,
    Delta,
    Line,
    Message,
    ModelUsage,
    ResultLine,
    StreamEvent,
    StreamLine,
    SystemLine,
    Usage,
)
from claude_proxy.claude.structured import TRIED_ENOUGH, StructuredAnswer
from claude_proxy.claude.tools import STRUCTURED_OUTPUT, ToolNames
from claude_proxy.conversation import (
    Conversation,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    Tool,
    ToolCallStarted,
    fold,
)
from claude_proxy.conversation import Usage as Tokens

OFFERED = (Tool("f", "{}"), Tool(STRUCTURED_OUTPUT, "{}"))
NAMES = ToolNames(Conversation("m", "", (), tools=OFFERED, schema='{"type":"object"}'))
INIT = SystemLine("init", ["Read", STRUCTURED_OUTPUT])


def stream(type_: str, **fields) -> StreamLine:
    return StreamLine(StreamEvent(type_, **fields))


def start(**usage: int) -> StreamLine:
    return stream("message_start", message=Message("claude-x", Usage(**usage)))


def delta(**fields: str) -> StreamLine:
    return stream("content_block_delta", delta=Delta(**fields))


def say(text: str) -> StreamLine:
    return delta(text=text)


def think(text: str) -> StreamLine:
    return delta(thinking=text)


def call(name: str, *fragments: str) -> list[Line]:
    begun = ContentBlock("tool_use", f"toolu_{name}", name, {})
    return [
        stream("content_block_start", content_block=begun),
        *(delta(partial_json=fragment) for fragment in fragments),
        stream("content_block_stop"),
    ]


def structured(*fragments: str) -> list[Line]:
    return call(STRUCTURED_OUTPUT, *fragments)


def stop(reason: str = "tool_use", details=None, **usage: int) -> StreamLine:
    ending = Delta(stop_reason=reason, stop_details=details)
    return stream("message_delta", delta=ending, usage=Usage(**usage))


def end(value: object = None, **fields) -> ResultLine:
    return ResultLine("success", num_turns=1, structured_output=value, **fields)


def answering() -> StructuredAnswer:
    return StructuredAnswer(NAMES, Spent())


def feed(answer: StructuredAnswer, *lines: Line) -> list[Event]:
    return [event for line in lines for event in answer.feed(line)]


def test_an_answer_that_fits_at_once_is_the_text_as_the_model_wrote_it():
    answer = answering()
    lines = [INIT, start(input_tokens=5), *structured('{ "a"', ": 1.0 }"), stop(output_tokens=9)]
    assert feed(answer, *lines) == [Started("claude-x", usage=Tokens(input=5))]
    assert not answer.finished
    assert feed(answer, end({"a": 1}, total_cost_usd=0.5)) == [
        TextDelta('{ "a": 1.0 }'),
        Finished(FinishReason.STOP, Tokens(input=5, output=9)),
    ]
    assert (answer.finished, answer.settled) == (True, True)
    assert (answer.report.usage, answer.report.cost_usd) == (Tokens(input=5, output=9), 0.5)
    assert answer.spent == Spent(0.5, 0)


def test_what_is_said_beside_it_is_no_part_of_the_answer():
    lines = [
        *(INIT, start(), think("hm"), say("Here it is:"), *structured('{"a":1}')),
        *(say("Done."), stop(), end({"a": 1})),
    ]
    answer = fold(feed(answering(), *lines))
    assert (answer.text, answer.reasoning, answer.calls) == ('{"a":1}', "hm", ())


def test_the_reasoning_is_passed_on_as_it_comes():
    assert feed(answering(), INIT, start(), think("hm")) == [
        Started("claude-x"),
        ReasoningDelta("hm"),
    ]


def test_an_answer_that_did_not_fit_is_never_seen_but_counted():
    answer = answering()
    first = [INIT, start(input_tokens=5, cache_creation_input_tokens=7), *structured('{"b"', ":1}")]
    second = [start(input_tokens=3, cache_read_input_tokens=12), *structured('{"a":1}')]
    usage = Tokens(input=8, cache_read=12, cache_write=7, output=30)
    events = feed(answer, *first, stop(output_tokens=10), *second, stop(output_tokens=20))
    assert events == [Started("claude-x", usage=Tokens(input=5, cache_write=7))]
    assert feed(answer, end({"a": 1}, total_cost_usd=0.5)) == [
        TextDelta('{"a":1}'),
        Finished(FinishReason.STOP, usage),
    ]
    assert (answer.report.usage, answer.report.cost_usd) == (usage, 0.5)


def test_prose_alone_is_tried_again():
    first = [INIT, start(), say("It is 1."), stop("end_turn", output_tokens=4)]
    second = [start(), *structured('{"a":1}'), stop(output_tokens=9), end({"a": 1})]
    answer = fold(feed(answering(), *first, *second))
    assert answer.text == '{"a":1}'
    assert answer.finished == Finished(FinishReason.STOP, Tokens(output=13))


def test_of_two_in_one_message_the_later_one_is_the_answer():
    lines = [INIT, start(), *structured('{"b":1}'), *structured('{"a":1}'), stop(), end({"a": 1})]
    assert fold(feed(answering(), *lines)).text == '{"a":1}'


def test_retries_of_every_message_are_counted():
    again = SystemLine("api_retry", retry_delay_ms=500)
    answer = answering()
    feed(answer, INIT, again, start(), say("x"), stop("end_turn"), again, again, start())
    assert answer.report.retries == 3


@pytest.mark.parametrize(
    "lines",
    [
        [start(), say("I'd rather not."), stop("end_turn"), end()],
        [start(), *structured('{"b":1}'), stop(), end()],
        [start(), *structured('{"b":1}'), stop(), start(), say("No."), stop("end_turn"), end()],
        [start(), say("{}"), stop("end_turn"), end({})],
        [start(), *structured('{"b":1}'), stop(), start(), say("No."), stop("end_turn"), end({})],
        [start(), *structured('{"b":1}'), ResultLine(TRIED_ENOUGH, is_error=True)],
    ],
    ids=["prose", "misfit", "then prose", "another's", "another's after a misfit", "cut short"],
)
def test_an_answer_that_never_fitted_is_an_error_that_nobody_retries(lines):
    answer = answering()
    with pytest.raises(errors.StructuredOutputFailed) as caught:
        feed(answer, INIT, *lines)
    assert caught.value.code == "structured_output_failed"
    assert caught.value.headers()["x-should-retry"] == "false"
    assert answer.settled
    assert not answer.finished


@pytest.mark.parametrize(
    ("lines", "cls"),
    [
        ([], errors.Overloaded),
        ([start(), *structured('{"b":1}'), stop()], errors.Overloaded),
        ([start(), *structured('{"b":1}'), stop(), start()], errors.Overloaded),
    ],
    ids=["at once", "after a try", "in the second try"],
)
def test_a_failure_of_the_api_is_told_as_such(lines, cls):
    failed = ResultLine(is_error=True, api_error_status=529, result="API Error: busy")
    with pytest.raises(cls):
        feed(answering(), INIT, *lines, failed)


def test_a_call_of_the_clients_passes_with_the_text_before_it():
    answer = answering()
    events = feed(answer, INIT, start(), say("Let me "), say("see."))
    assert events == [Started("claude-x")]
    events += feed(answer, *call("f", '{"x"', ":1}"), stop(output_tokens=9))
    made = fold(events)
    assert [type(event) for event in events[1:4]] == [TextDelta, TextDelta, ToolCallStarted]
    assert made.text == "Let me see."
    assert [(one.name, json.loads(one.arguments)) for one in made.calls] == [("f", {"x": 1})]
    assert made.finished == Finished(FinishReason.TOOL_CALLS, Tokens(output=9))
    assert [(one.api_id, one.id) for one in answer.calls] == [("toolu_f", made.calls[0].id)]
    assert (answer.finished, answer.settled) == (True, False)


def test_what_was_said_beside_a_misfit_does_not_come_with_a_later_call():
    misfit = [INIT, start(), say("Here:"), *structured('{"b":1}'), stop()]
    made = fold(feed(answering(), *misfit, start(), say("Let me see."), *call("f"), stop()))
    assert made.text == "Let me see."
    assert [one.name for one in made.calls] == ["f"]


def test_a_tool_of_the_clients_may_have_the_name_of_the_clis():
    api_name = NAMES.to_api(STRUCTURED_OUTPUT)
    events = feed(answering(), INIT, start(), *call(api_name), stop())
    assert [one.name for one in fold(events).calls] == [STRUCTURED_OUTPUT]


@pytest.mark.parametrize("first", ["f", STRUCTURED_OUTPUT])
def test_beside_a_call_of_the_clients_a_structured_answer_does_not_count(first):
    parts = {"f": call("f", "{}"), STRUCTURED_OUTPUT: structured('{"a":1}')}
    calls = [*parts.pop(first), *next(iter(parts.values()))]
    made = fold(feed(answering(), INIT, start(), *calls, stop()))
    assert made.finished.reason is FinishReason.TOOL_CALLS
    assert ([one.name for one in made.calls], made.text) == (["f"], "")


def test_an_answer_that_was_cut_is_as_long_as_it_came():
    answer = answering()
    lines = [INIT, start(), say("Here:"), *structured('{"a":', '"on')[:-1]]
    made = fold(feed(answer, *lines, stop("max_tokens", output_tokens=9)))
    assert made.text == '{"a":"on'
    assert made.finished == Finished(FinishReason.LENGTH, Tokens(output=9))
    assert (answer.finished, answer.goes_on_by_itself) == (True, True)


def test_a_refusal_is_one():
    lines = [INIT, start(), say("I"), stop("refusal", {"explanation": "I may not."})]
    made = fold(feed(answering(), *lines))
    assert made.finished == Finished(FinishReason.REFUSAL, Tokens(), "I may not.")
    assert made.calls == ()


@pytest.mark.parametrize("tools", [[], ["Read", "structuredoutput"]])
def test_a_schema_that_the_cli_does_not_take_is_the_clients_fault(tools):
    with pytest.raises(errors.InvalidRequest) as caught:
        answering().feed(SystemLine("init", tools))
    assert caught.value.param == "schema"


@pytest.mark.parametrize("line", [INIT, SystemLine("init"), SystemLine("api_retry")])
def test_other_lines_of_the_system_refuse_nothing(line):
    assert answering().feed(line) == []


def test_what_a_subagent_says_is_no_new_message():
    answer = answering()
    inner = start()
    inner.parent_tool_use_id = "toolu_1"
    events = feed(answer, INIT, start(), *structured('{"a":1}'), stop(), inner, end({"a": 1}))
    assert fold(events).text == '{"a":1}'


pieces = st.lists(st.text("{}ab1 ", max_size=3), max_size=4)
misfits = pieces.map(lambda said: [start(), *structured(*said), stop(output_tokens=2)])
prose = st.text().map(lambda said: [start(), say(said), stop("end_turn", output_tokens=1)])
tries = st.lists(misfits | prose, max_size=4)


@given(tries, pieces)
def test_however_often_it_was_tried_the_answer_comes_once(before, said):
    lines = [line for lines in before for line in lines]
    answer = answering()
    events = feed(answer, INIT, *lines, start(), *structured(*said), stop(output_tokens=5))
    assert events == [Started("claude-x")]
    events += feed(answer, end({"a": 1}))
    made = fold(events)
    assert made.text == ("".join(said) if "".join(said).strip() else "".join(said) + "{}")
    assert [type(event) for event in events[1:]] == [TextDelta, Finished]
    assert made.finished.usage == answer.report.usage
    assert made.finished.usage.output == 5 + sum(
        line.event.usage.output_tokens for line in lines if line.event.type == "message_delta"
    )


def test_a_second_try_is_counted_once():
    answer = StructuredAnswer(NAMES, Spent(output=100))
    said = feed(
        answer,
        *(start(input_tokens=1), *structured('{"a":'), stop("tool_use", output_tokens=10)),
        *(start(input_tokens=2), *structured("{}"), stop("tool_use", output_tokens=20)),
        ResultLine("success", structured_output={}, modelUsage={"m": ModelUsage(130)}),
    )
    usage = Tokens(input=3, output=30)
    assert said[-1] == Finished(FinishReason.STOP, usage)
    assert (answer.report.usage, answer.spent.output) == (usage, 130)


@pytest.mark.parametrize("end", [[stop("refusal")], [*structured('{"a":'), stop("max_tokens")]])
def test_nothing_comes_after_the_end(end):
    answer = StructuredAnswer(NAMES, Spent())
    assert isinstance(feed(answer, start(), *end)[-1], Finished)
    assert feed(answer, start(), say("x"), *end) == []


def test_one_that_breaks_off_is_not_asked_for_anew():
    answer = StructuredAnswer(NAMES, Spent())
    feed(answer, start(), *structured('{"a":')[:-1])
    assert not answer.goes_on_by_itself
    with pytest.raises(errors.BadUpstream):
        answer.feed(stream("message_stop"))
    assert answer.goes_on_by_itself
