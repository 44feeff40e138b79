"""Structured output: content is JSON that fits the client's schema, and nothing else."""

from __future__ import annotations

import json
from typing import Literal

import pytest
from openai import OpenAI
from pydantic import BaseModel, Field

from tests.lab import KEY, function, process_of, sse, text_block, turns_upstream


class Step(BaseModel):
    explanation: str
    kind: Literal["easy", "hard"]


class Solution(BaseModel):
    steps: list[Step]
    result: int = Field(ge=5)
    next: Solution | None = None


NUMBER = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 5}},
    "required": ["n"],
    "additionalProperties": False,
}


def json_schema(schema, **more):
    form = {"name": "answer", "schema": schema, "strict": True, **more}
    return {"type": "json_schema", "json_schema": form}


def content(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


def test_parse_of_the_official_client(daemon, tag):
    with OpenAI(base_url=f"{daemon.url}/v1", api_key=KEY, max_retries=0) as client:
        messages = [{"role": "user", "content": tag}]
        completion = client.chat.completions.parse(
            model="sonnet", messages=messages, response_format=Solution
        )
        message = completion.choices[0].message
        assert isinstance(message.parsed, Solution)
        assert message.parsed.result >= 5
        assert message.refusal is None
        assert completion.choices[0].finish_reason == "stop"
        with client.chat.completions.stream(
            model="sonnet", messages=messages, response_format=Solution
        ) as stream:
            assert stream.get_final_completion().choices[0].message.parsed == message.parsed


def test_the_model_sees_the_schema_as_it_was_written(daemon, simulator, tag):
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "pair": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]},
            "pet": {
                "oneOf": [{"type": "object", "properties": {"kind": {"const": "cat"}}}],
                "discriminator": {"propertyName": "kind"},
            },
        },
        "x-mine": True,
    }
    value = {"pair": ["a", 1], "pet": {"kind": "cat"}}
    prompt = f"{tag} [simulate tool=StructuredOutput input='{json.dumps(value)}']"
    answer = daemon.chat(prompt, response_format=json_schema(schema))
    assert json.loads(content(answer)) == value
    (request,) = simulator.requests(tag)
    (tool,) = request["body"]["tools"]
    assert json.dumps(tool["input_schema"]) == json.dumps(schema)
    assert turns_upstream(request["body"]) == [("user", [text_block(prompt)])]


@pytest.mark.parametrize("form", [{"type": "json_object"}, json_schema(NUMBER)], ids=["any", "n"])
@pytest.mark.parametrize("stream", [True, False])
def test_prose_beside_it_is_no_part_of_the_answer(daemon, tag, form, stream):
    prompt = f"{tag} [simulate text='Here you are:' tool=StructuredOutput input='{{\"n\": 7}}']"
    answer = daemon.chat(prompt, response_format=form, stream=stream)
    if stream:
        frames = [frame for frame in sse(answer.text) if frame != "[DONE]"]
        said = "".join(f["choices"][0]["delta"].get("content") or "" for f in frames)
        reason = frames[-1]["choices"][0]["finish_reason"]
    else:
        said, reason = content(answer), answer.json()["choices"][0]["finish_reason"]
    assert (json.loads(said), reason) == ({"n": 7}, "stop")


@pytest.mark.parametrize("stream", [True, False])
def test_a_second_try_of_the_model_never_shows(daemon, simulator, tag, stream):
    """The first does not fit; after the CLI's complaint the simulator gives a sample that does."""
    prompt = f"{tag} [simulate tool=StructuredOutput input='{{\"n\": 1}}' text='hm']"
    answer = daemon.chat(prompt, response_format=json_schema(NUMBER), stream=stream)
    if stream:
        frames = [frame for frame in sse(answer.text) if frame != "[DONE]"]
        said = "".join(f["choices"][0]["delta"].get("content") or "" for f in frames)
        assert [f["choices"][0]["delta"].get("role") for f in frames].count("assistant") == 1
    else:
        said = content(answer)
        prompts = [r["usage"]["input_tokens"] for r in simulator.requests(tag) if "usage" in r]
        assert answer.json()["usage"]["prompt_tokens"] >= sum(prompts)
    assert json.loads(said) == {"n": 5}
    assert len(simulator.requests(tag)) == 2


def test_an_answer_that_never_fits_is_an_error_that_is_not_retried(daemon, simulator, tag):
    prompt = f"{tag} [simulate text='I would rather talk.']"
    answer = daemon.chat(prompt, response_format=json_schema(NUMBER | {"maxProperties": 0}))
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "structured_output_failed"
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"type": "yaml"}, "response_format.type"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        (json_schema(NUMBER, name="a b"), "response_format.json_schema.name"),
        (json_schema("x"), "response_format.json_schema.schema"),
        (json_schema({"type": "array"}), "response_format.json_schema.schema"),
        (json_schema({"anyOf": [NUMBER]}), "response_format.json_schema.schema"),
        (json_schema(NUMBER | {"required": "n"}), "response_format.json_schema.schema"),
        (
            json_schema({"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}),
            "response_format.json_schema.schema",
        ),
        (
            json_schema({"type": "object", "properties": {"a": {"pattern": "("}}}),
            "response_format.json_schema.schema",
        ),
    ],
)
def test_a_schema_that_cannot_be_used_is_named(daemon, form, param):
    answer = daemon.chat("x", response_format=form)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def test_together_with_tools(daemon, simulator, tag):
    tools = [function("look", NUMBER), function("StructuredOutput")]
    form = json_schema(NUMBER)
    prompt = f"{tag} [simulate text='Let me look.' tool=look input='{{\"n\":1}}']"
    first = daemon.chat(prompt, tools=tools, response_format=form).json()["choices"][0]
    assert first["finish_reason"] == "tool_calls"
    assert first["message"]["content"] == "Let me look."
    (call,) = first["message"]["tool_calls"]
    assert call["function"] == {"name": "look", "arguments": '{"n":1}'}
    history = [
        {"role": "user", "content": prompt},
        first["message"],
        {"role": "tool", "tool_call_id": call["id"], "content": "six"},
    ]
    second = daemon.chat(history, tools=tools, response_format=form)
    assert process_of(daemon, second) == "continued"
    assert json.loads(content(second)) == {"n": 5}
    upstream = [tool["name"] for tool in simulator.requests(tag)[0]["body"]["tools"]]
    assert (upstream[0], upstream[2]) == ("look", "StructuredOutput")
    assert upstream[1] not in ("look", "StructuredOutput")
    history += [second.json()["choices"][0]["message"], {"role": "user", "content": f"{tag} more"}]
    assert json.loads(content(daemon.chat(history, tools=tools, response_format=form)))
    last = turns_upstream(simulator.requests(f"{tag} more")[0]["body"])
    assert last[3] == ("assistant", [text_block(content(second))])


def test_a_call_that_is_required_is_one_of_the_clients_tools(daemon, simulator, tag):
    tools = [function("a"), function("b")]
    answer = daemon.chat(
        tag, tools=tools, tool_choice="required", response_format=json_schema(NUMBER)
    ).json()["choices"][0]
    assert answer["finish_reason"] == "tool_calls"
    (request,) = simulator.requests(tag)
    assert [tool["name"] for tool in request["body"]["tools"]] == ["a", "b"]
    history = [
        {"role": "user", "content": tag},
        answer["message"],
        *(
            {"role": "tool", "tool_call_id": call["id"], "content": "done"}
            for call in answer["message"]["tool_calls"]
        ),
    ]
    last = daemon.chat(history, tools=tools, response_format=json_schema(NUMBER))
    assert json.loads(content(last)) == {"n": 5}


def test_without_its_tools_it_can_still_answer(daemon, simulator, tag):
    form = json_schema(NUMBER)
    answer = daemon.chat(tag, tools=[function("a")], tool_choice="none", response_format=form)
    assert json.loads(content(answer)) == {"n": 5}


@pytest.mark.parametrize("stream", [True, False])
def test_a_refusal_fills_refusal(daemon, tag, stream):
    prompt = f"{tag} [simulate stop=refusal text='']"
    answer = daemon.chat(prompt, response_format=json_schema(NUMBER), stream=stream)
    if stream:
        choices = [f["choices"][0] for f in sse(answer.text) if f != "[DONE]"]
        refusal = "".join(c["delta"].get("refusal") or "" for c in choices)
        reason = choices[-1]["finish_reason"]
    else:
        choice = answer.json()["choices"][0]
        refusal, reason = choice["message"]["refusal"], choice["finish_reason"]
        assert choice["message"]["content"] is None
    assert refusal
    assert reason == "content_filter"


def test_a_refusal_behind_the_call_frees_its_turn_at_once(start, tag):
    daemon = start("--max-concurrency", "1")
    daemon.chat(f"{tag} [simulate stop=refusal]", response_format=json_schema(NUMBER))
    assert daemon.chat(tag).status_code == 200
    assert not daemon.log.records("turn.failed_after_its_answer")


@pytest.mark.parametrize("stream", [True, False])
def test_a_cut_answer_says_so(daemon, tag, stream):
    prompt = f"{tag} [simulate tool=StructuredOutput input='{{\"n\":5}}' input_chunk=1]"
    answer = daemon.chat(prompt, response_format=json_schema(NUMBER), max_tokens=3, stream=stream)
    if stream:
        reason = sse(answer.text)[-2]["choices"][0]["finish_reason"]
    else:
        reason = answer.json()["choices"][0]["finish_reason"]
    assert reason == "length"
