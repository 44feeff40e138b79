"""Tools: native upstream, the client's own names and schemas, held until the client answers."""

from __future__ import annotations

import json

import openai
import pytest
from openai import OpenAI

from tests.lab import KEY, PNG, by_place, function, process_of, sse, text_block, turns_upstream

ANYTHING = {"type": "object", "properties": {"x": {"type": "integer"}}}
BUILT_IN = ["Bash", "Read", "Edit", "Write", "WebSearch", "Task", "TodoWrite", "StructuredOutput"]
SCHEMAS = {
    "nested": {
        "type": "object",
        "properties": {"a": {"type": "object", "properties": {"b": {"enum": ["x", 1, None]}}}},
        "required": ["a"],
        "additionalProperties": False,
    },
    "refs": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {"node": {"type": "object", "properties": {"n": {"$ref": "#/$defs/node"}}}},
        "properties": {"root": {"$ref": "#/$defs/node"}},
    },
    "any_of": {"type": "object", "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
    "patterns": {"type": "object", "patternProperties": {"^x-": {"type": ["string", "null"]}}},
    "numbers": {
        "type": "object",
        "properties": {"n": {"maximum": 9007199254740991, "default": 1.5}},
    },
    "keys": {"zeta": 1, "type": "object", "alpha": {"$comment": "ä"}},
}


@pytest.fixture(scope="module")
def client(daemon):
    with OpenAI(base_url=f"{daemon.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def ask(prompt: str):
    return [{"role": "user", "content": prompt}]


def results_for(message, *contents):
    calls = message["tool_calls"]
    return [
        {"role": "tool", "tool_call_id": call["id"], "content": content}
        for call, content in zip(calls, contents, strict=True)
    ]


def test_a_round_trip_through_the_official_client(client, simulator, tag):
    tools = [function("get_weather", {"type": "object", "properties": {"city": {}}})]
    messages = ask(
        f"{tag} [simulate text='Let me look.' tool=get_weather input='{{\"city\":\"Rom\"}}']"
    )
    first = client.chat.completions.create(model="sonnet", messages=messages, tools=tools)
    choice = first.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me look."
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert call.id.isalnum()
    assert (call.function.name, json.loads(call.function.arguments)) == (
        "get_weather",
        {"city": "Rom"},
    )
    messages += [choice.message, {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}]
    second = client.chat.completions.create(model="sonnet", messages=messages, tools=tools)
    assert "21 degrees" in second.choices[0].message.content
    assert second.choices[0].finish_reason == "stop"
    first_upstream, second_upstream = simulator.requests(tag)
    assert [tool["name"] for tool in first_upstream["body"]["tools"]] == ["get_weather"]
    turns = turns_upstream(second_upstream["body"])
    assert [role for role, _ in turns] == ["user", "assistant", "user"]
    assert turns[1][1][0] == text_block("Let me look.")
    assert turns[1][1][1]["input"] == {"city": "Rom"}
    assert turns[2][1][0]["content"] == [text_block("21 degrees")]


def test_calls_stream_as_they_are_made(client, tag):
    arguments = json.dumps({"path": "a b/ü.txt", "lines": list(range(20))})
    prompt = f"{tag} [simulate text='First this.' tool=read input='{arguments}' tool=now tool=read]"
    stream = client.chat.completions.create(
        model="sonnet",
        messages=ask(prompt),
        tools=[function("read", ANYTHING), function("now")],
        stream=True,
    )
    calls: dict[int, dict[str, str]] = {}
    fragments, text, reason = 0, "", None
    for chunk in stream:
        delta = chunk.choices[0].delta
        assert not (delta.content and calls), "the text comes before the calls"
        text += delta.content or ""
        reason = chunk.choices[0].finish_reason or reason
        for call in delta.tool_calls or ():
            if call.index not in calls:
                assert (call.id, call.type, call.function.arguments) == (call.id, "function", "")
                calls[call.index] = {"id": call.id, "name": call.function.name, "arguments": ""}
            else:
                assert (call.id, call.type, call.function.name) == (None, None, None)
                calls[call.index]["arguments"] += call.function.arguments
                fragments += 1
    assert (text, reason) == ("First this.", "tool_calls")
    assert list(calls) == [0, 1, 2]
    assert [call["name"] for call in calls.values()] == ["read", "now", "read"]
    assert json.loads(calls[0]["arguments"]) == json.loads(arguments)
    assert calls[1]["arguments"] == "{}"
    assert len({call["id"] for call in calls.values()}) == 3
    assert fragments > 5


def test_the_stream_helper_of_the_sdk_takes_it(client, tag):
    prompt = (
        f"{tag} [simulate text='So.' tool=read input='{{\"x\":1}}' tool=read input='{{\"x\":2}}']"
    )
    with client.chat.completions.stream(
        model="sonnet", messages=ask(prompt), tools=[function("read", ANYTHING)]
    ) as stream:
        final = stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert [json.loads(call.function.arguments) for call in calls] == [{"x": 1}, {"x": 2}]


def test_tools_arrive_as_they_were_written_and_in_their_order(daemon, simulator, tag):
    tools = [function(name, schema, description=name * 2_000) for name, schema in SCHEMAS.items()]
    tools += [function(name, description="the client's own") for name in BUILT_IN]
    prompt = f"{tag} [simulate " + " ".join(f"tool={name}" for name in ["refs", *BUILT_IN]) + "]"
    answer = daemon.chat(prompt, tools=tools).json()["choices"][0]["message"]
    assert [call["function"]["name"] for call in answer["tool_calls"]] == ["refs", *BUILT_IN]
    (request,) = simulator.requests(tag)
    arrived = request["body"]["tools"]
    assert [tool["name"] for tool in arrived] == [*SCHEMAS, *BUILT_IN]
    for name, tool in zip(SCHEMAS, arrived, strict=False):
        assert tool["description"] == name * 2_000
        assert json.dumps(tool["input_schema"]) == json.dumps(SCHEMAS[name])
    for tool in arrived[len(SCHEMAS) :]:
        assert tool["input_schema"]["type"] == "object"
    ((_, content),) = turns_upstream(request["body"])
    assert content == [text_block(prompt)], "a tool's name must draw nothing into the prompt"


def test_names_that_the_api_does_not_take_go_there_and_back(daemon, simulator, tag):
    names = ["zeit.jetzt", "zeit_jetzt", "zeit jetzt", "ü" * 100, "mcp/server:tool"]
    tools = [function(name, ANYTHING) for name in names]
    made = daemon.chat(f"{tag} one", tools=tools, tool_choice="none")
    assert made.status_code == 200, made.text
    upstream = [tool["name"] for tool in simulator.requests(tag)[0]["body"]["tools"]]
    assert len(set(upstream)) == len(names)
    assert upstream[1] == "zeit_jetzt"
    prompt = f"{tag} two [simulate " + " ".join(f"tool={name}" for name in upstream) + "]"
    message = daemon.chat(prompt, tools=tools).json()["choices"][0]["message"]
    assert [call["function"]["name"] for call in message["tool_calls"]] == names
    history = [*ask(prompt), message, *results_for(message, *names)]
    assert daemon.chat([*history, *ask(f"{tag} three")], tools=tools[:1]).status_code == 200
    replayed = turns_upstream(simulator.requests(f"{tag} three")[0]["body"])
    assert [block["name"] for block in replayed[1][1]] == upstream


@pytest.mark.parametrize("tools", [[], [function("known", ANYTHING)]], ids=["none", "one"])
@pytest.mark.parametrize("called", ["unknown", "known tool=unknown", "Bash", "StructuredOutput"])
def test_a_tool_that_was_not_offered_is_the_clients_matter(daemon, simulator, tag, tools, called):
    """No second turn is run that tells the model of it."""
    answer = daemon.chat(f"{tag} [simulate tool={called}]", **({"tools": tools} if tools else {}))
    choice = answer.json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    names = [call["function"]["name"] for call in choice["message"]["tool_calls"]]
    assert names == called.split(" tool=")
    message = choice["message"]
    after = [*ask(f"{tag} [simulate tool={called}]"), message, *results_for(message, *names)]
    assert daemon.chat(after, **({"tools": tools} if tools else {})).status_code == 200
    assert len(simulator.requests(tag)) == 2


@pytest.mark.parametrize(
    "said",
    [
        "text=''",
        "tokens=0",
        "thinking=3 tokens=0",
        "text='I will. ' stop=tool_use",
        "stop=tool_use",
    ],
)
@pytest.mark.parametrize("behind", ["a question", "a result"])
def test_an_odd_answer_is_one_request(daemon, simulator, tag, said, behind):
    """The CLI would ask the model again for something to see, or for the call that it announced."""
    history = ask(f"{tag} [simulate {said}]")
    if behind == "a result":
        history = ask(f"{tag} go [simulate tool=look]")
        message = daemon.chat(history, tools=[function("look")]).json()["choices"][0]["message"]
        history += [message, *results_for(message, f"{tag} seen [simulate {said}]")]
    before = len(simulator.requests(tag))
    answer = daemon.chat(history, tools=[function("look")])
    choice = answer.json()["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert "tool_calls" not in choice["message"]
    assert process_of(daemon, answer)
    history += [choice["message"], *ask(f"{tag} next")]
    assert daemon.chat(history, tools=[function("look")]).status_code == 200
    assert len(simulator.requests(tag)) == before + 2
    assert f"{tag} next" in json.dumps(simulator.requests(tag)[-1]["body"]["messages"])


@pytest.mark.parametrize("how", ["break=4", "stream_error=4"])
@pytest.mark.parametrize(
    "said", ["tool=look tool=look", "text='a b' tool=look", "text='a b c d e f'"]
)
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_breaks_off_is_an_error_at_once_and_one_request(
    daemon, simulator, tag, how, said, stream
):
    tools = [function("look", ANYTHING)]
    answer = daemon.chat(f"{tag} [simulate {said} {how}]", tools=tools, stream=stream)
    if stream:
        error = sse(answer.text)[-1]["error"]
    else:
        assert answer.status_code in (500, 502, 503)
        error = answer.json()["error"]
    assert error["type"] == "server_error"
    done = daemon.log.wait_for("request.done", request_id=answer.headers["x-request-id"])
    assert done["duration_ms"] < 10_000, "the CLI would wait for a result that nobody can give"
    assert len(simulator.requests(tag)) == 1


@pytest.mark.parametrize(
    ("fields", "arrives"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, None),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "b.b"}}},
            {"type": "tool", "name": "b_b"},
        ),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        (
            {"parallel_tool_calls": False, "tool_choice": "required"},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
    ],
)
def test_the_choice_of_tools_is_native(daemon, simulator, tag, fields, arrives):
    tools = [function("a"), function("b.b", ANYTHING)]
    answer = daemon.chat(tag, tools=tools, **fields)
    assert answer.status_code == 200, answer.text
    (request,) = simulator.requests(tag)
    body = request["body"]
    chosen = body.get("tool_choice")
    if arrives is not None and "name" in arrives:
        assert chosen["name"] == body["tools"][1]["name"]
        chosen = {**chosen, "name": chosen["name"][:3]}
    assert chosen == arrives
    forced = arrives is not None and arrives["type"] in ("any", "tool")
    assert ("thinking" in body) is not forced
    assert (answer.json()["choices"][0]["finish_reason"] == "tool_calls") is forced


@pytest.mark.parametrize("stream", [True, False])
def test_a_forced_call_through_the_official_client(client, simulator, tag, stream):
    tools = [function("a"), function("b", ANYTHING)]
    given = {
        "model": "sonnet",
        "messages": ask(tag),
        "tools": tools,
        "tool_choice": {"type": "function", "function": {"name": "b"}},
        "parallel_tool_calls": False,
    }
    if stream:
        with client.chat.completions.stream(**given) as events:
            completion = events.get_final_completion()
    else:
        completion = client.chat.completions.create(**given)
    choice = completion.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert [call.function.name for call in choice.message.tool_calls] == ["b"]
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"x": 1}
    (request,) = simulator.requests(tag)
    chosen = {"type": "tool", "name": "b", "disable_parallel_tool_use": True}
    assert request["body"]["tool_choice"] == chosen


def test_only_the_allowed_tools_are_offered(daemon, simulator, tag):
    tools = [function("a"), function("b"), function("c")]
    allowed = [{"type": "function", "function": {"name": name}} for name in "ca"]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": allowed}}
    assert daemon.chat(tag, tools=tools, tool_choice=choice).status_code == 200
    (request,) = simulator.requests(tag)
    assert [tool["name"] for tool in request["body"]["tools"]] == ["a", "c"]
    assert request["body"]["tool_choice"] == {"type": "any"}


def test_the_choice_may_change_between_the_calls_and_their_results(daemon, simulator, tag):
    tools = [function("a")]
    first = daemon.chat(f"{tag} go", tools=tools, tool_choice="required")
    message = first.json()["choices"][0]["message"]
    history = [*ask(f"{tag} go"), message, *results_for(message, "done")]
    second = daemon.chat(history, tools=tools, tool_choice="none", stop="END")
    assert process_of(daemon, second) == "continued"
    before, after = (request["body"] for request in simulator.requests(tag))
    assert (before["tool_choice"], "thinking" in before) == ({"type": "any"}, False)
    assert (after["tool_choice"], "thinking" in after) == ({"type": "none"}, True)
    assert after["stop_sequences"] == ["END"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"max_tokens": 99}, {}),
        ({}, {"max_tokens": 99}),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "high"}),
        ({}, {"reasoning_effort": "high"}),
    ],
)
def test_what_the_cli_keeps_for_a_whole_turn_is_replayed_to_change(
    daemon, simulator, tag, first, second
):
    prompt = f"{tag} [simulate tool=a]"
    message = daemon.chat(prompt, tools=[function("a")], **first).json()["choices"][0]["message"]
    history = [*ask(prompt), message, *results_for(message, "done")]
    answer = daemon.chat(history, tools=[function("a")], **second)
    assert process_of(daemon, answer) != "continued"
    before, after = (request["body"] for request in simulator.requests(tag))
    for body, fields in ((before, first), (after, second)):
        assert body["output_config"]["effort"] == fields.get("reasoning_effort", "medium")
        assert (body["max_tokens"] == 99) is ("max_tokens" in fields)


@pytest.mark.parametrize("stream", [True, False])
def test_the_old_functions(daemon, simulator, tag, stream):
    functions = [{"name": "get_weather", "description": "d", "parameters": ANYTHING}]
    prompt = f"{tag} [simulate tool=get_weather input='{{\"x\":1}}']"
    answer = daemon.chat(prompt, functions=functions, function_call="auto", stream=stream)
    if stream:
        choices = [frame["choices"][0] for frame in sse(answer.text) if frame != "[DONE]"]
        pieces = [c["delta"]["function_call"] for c in choices if "function_call" in c["delta"]]
        assert [piece.get("name") for piece in pieces] == ["get_weather"] + [None] * (
            len(pieces) - 1
        )
        call = {"name": "get_weather", "arguments": "".join(p["arguments"] for p in pieces)}
        reason = choices[-1]["finish_reason"]
    else:
        choice = answer.json()["choices"][0]
        assert "tool_calls" not in choice["message"]
        call, reason = choice["message"]["function_call"], choice["finish_reason"]
    assert reason == "function_call"
    assert call == {"name": "get_weather", "arguments": '{"x":1}'}
    history = [
        *ask(prompt),
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "get_weather", "content": "rain"},
    ]
    second = daemon.chat(history, functions=functions)
    assert process_of(daemon, second) == "continued"
    assert "rain" in second.json()["choices"][0]["message"]["content"]
    first, last = (request["body"] for request in simulator.requests(tag))
    assert first["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert turns_upstream(last)[2][1][0]["content"] == [text_block("rain")]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_results_of_every_kind_in_any_order(daemon, simulator, tag, order):
    tools = [function("look")]
    prompt = f"{tag} [simulate tool=look tool=look tool=look]"
    message = daemon.chat(prompt, tools=tools).json()["choices"][0]["message"]
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    contents = [
        "plain\u200b text \U000e0041\n\n",
        [{"type": "text", "text": "see"}, picture, {"type": "text", "text": "and"}],
        "x" * 300_000,
    ]
    results = results_for(message, *contents)
    answer = daemon.chat([*ask(prompt), message, *(results[i] for i in order)], tools=tools)
    assert process_of(daemon, answer) == "continued"
    image = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": PNG},
    }
    expected = [
        [text_block(contents[0])],
        [text_block("see"), image, text_block("and")],
        [text_block(contents[2])],
    ]
    turns = by_place(turns_upstream(simulator.requests(tag)[-1]["body"]))
    assert [(block["tool_use_id"], block["content"]) for block in turns[2][1]] == [
        (i, expected[i]) for i in order
    ]


@pytest.mark.parametrize(
    "content",
    ["", " \n", [], "x" * 450_000, [{"type": "text", "text": ""}]],
    ids=["empty", "blank", "no parts", "huge", "empty part"],
)
def test_a_result_that_the_cli_would_change_is_replayed_as_it_is(daemon, simulator, tag, content):
    tools = [function("look")]
    prompt = f"{tag} [simulate tool=look]"
    message = daemon.chat(prompt, tools=tools).json()["choices"][0]["message"]
    answer = daemon.chat([*ask(prompt), message, *results_for(message, content)], tools=tools)
    assert answer.status_code == 200, answer.text
    assert process_of(daemon, answer) != "continued"
    (result,) = turns_upstream(simulator.requests(tag)[-1]["body"])[2][1]
    kept = isinstance(content, str) and content.strip()
    assert result.get("content", []) == ([text_block(content)] if kept else [])


def test_foreign_ids_of_any_characters_are_taken(daemon, simulator, tag):
    ids = ["call_1", "fc-ä/…", "x" * 900, "", "call_1!"]
    calls = [
        {"id": id_, "type": "function", "function": {"name": "look", "arguments": ""}}
        for id_ in ids
    ]
    results = [
        {"role": "tool", "tool_call_id": id_, "content": f"r{i}"} for i, id_ in enumerate(ids)
    ]
    assistant = {"role": "assistant", "content": None, "tool_calls": calls}
    answer = daemon.chat([*ask(tag), assistant, *results], tools=[function("look")])
    assert answer.status_code == 200, answer.text
    (request,) = simulator.requests(tag)
    turns = by_place(turns_upstream(request["body"]))
    assert [(block["tool_use_id"], block["content"][0]["text"]) for block in turns[2][1]] == [
        (i, f"r{i}") for i in range(len(ids))
    ]


@pytest.mark.parametrize("where", ["both", "result"])
def test_ids_that_lost_their_punctuation_still_fit(daemon, simulator, tag, where):
    call = {"id": "call_ab-c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    if where == "both":
        call["id"] = "callabc"
    assistant = {"role": "assistant", "content": "", "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "callabc", "content": "seen"}
    answer = daemon.chat([*ask(tag), assistant, result], tools=[function("look")])
    assert answer.status_code == 200, answer.text


def test_a_missing_result_is_named(client, tag):
    call = {"id": "callxyz", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages = [
        *ask(tag),
        {"role": "assistant", "tool_calls": [call]},
        {"role": "user", "content": "what now"},
    ]
    with pytest.raises(openai.BadRequestError, match="callxyz") as refused:
        client.chat.completions.create(model="sonnet", messages=messages, tools=[function("look")])
    assert refused.value.param == "messages[1].tool_calls[0]"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [function("")]}, "tools[0].function.name"),
        ({"tools": [function("a"), function("a")]}, "tools[1].function.name"),
        ({"tools": [function("a", [])]}, "tools[0].function.parameters"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        (
            {
                "tools": [function("a")],
                "tool_choice": {"type": "function", "function": {"name": "b"}},
            },
            "tool_choice",
        ),
        ({"tools": [function("a")], "functions": [{"name": "b"}]}, "functions"),
    ],
)
def test_wrong_tools_are_named(daemon, fields, param):
    answer = daemon.chat("x", **fields)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
