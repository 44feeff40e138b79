"""The Responses API with the official client, the real CLI and the simulator."""

from __future__ import annotations

import json

import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from openai.types import responses as kinds
from pydantic import BaseModel

from tests.lab import (
    KEY,
    PDF,
    PNG,
    by_place,
    process_of,
    sse,
    system_upstream,
    text_block,
    turns_upstream,
)
from tests.openai_types import problems, sequence_problems

# What we say beyond OpenAI's published types, and who asks for it.
OF_RESPONSE = frozenset(
    {
        *("store", "presence_penalty", "frequency_penalty"),  # Open Responses
        "output.status",  # of a custom call that was cut off, which must be seen
    }
)
OF_EVENTS = frozenset(
    {
        *(f"response.{name}" for name in OF_RESPONSE),
        "error",  # Open Responses' form of the error event, beside OpenAI's
        "name",  # in function_call_arguments.done: OpenAI's description, not yet its package
        "item.status",
    }
)
WEATHER = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Patches.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
}
AGENTS = {
    "type": "namespace",
    "name": "agents",
    "description": "Others.",
    "tools": [{"type": "function", "name": "close", "parameters": {"type": "object"}}],
}
SEARCH = {"type": "web_search", "external_web_access": True}
PROMPTS = {
    "text": "[simulate text='How are you?']",
    "nothing": "[simulate text='']",
    "thinking": "[simulate thinking=3 text=Well.]",
    "redacted": "[simulate redacted=1 text=Well.]",
    "calls": "[simulate text='Let me see.' tool=weather input='{\"city\":\"Ulm\"}' tool=weather]",
    "custom": '[simulate tool=apply_patch input=\'{"input":"*** \\"Begin\\"\\n+ 😀"}\']',
    "namespace": "[simulate thinking=2 tool=agents__close]",
    "length": "[simulate text='cut off here' stop=max_tokens]",
    "cut call": '[simulate tool=weather input=\'{"city":"Ulm"}\' stop=max_tokens]',
    "cut custom call": '[simulate tool=apply_patch input=\'{"input":"x"}\' stop=max_tokens]',
    "refusal": "[simulate text='I would' stop=refusal]",
}


@pytest.fixture
def client(daemon):
    with OpenAI(base_url=f"{daemon.url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


def events_of(answer):
    """The events of a stream, each checked against OpenAI's types, all against its order."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = sse(answer.text)
    named = [line[7:] for line in answer.text.split("\n") if line.startswith("event: ")]
    assert named == [event["type"] for event in events]
    for event in events:
        assert problems(event, kinds.ResponseStreamEvent, extensions=OF_EVENTS) == []
    assert sequence_problems(events) == []
    return events


def response_of(answer):
    assert answer.status_code == 200, answer.text
    assert problems(answer.json(), kinds.Response, extensions=OF_RESPONSE) == []
    return answer.json()


def bare(response):
    """Without what is another one in every answer: ids, times, what the cache had."""
    made = {"id", "created_at", "completed_at", "call_id", "usage"}

    def clean(value):
        if isinstance(value, dict):
            return {key: clean(inner) for key, inner in value.items() if key not in made}
        return [clean(inner) for inner in value] if isinstance(value, list) else value

    return clean(response)


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("summary", [None, "auto"])
def test_every_event_is_openais_and_the_whole_answer_is_the_same(daemon, tag, prompt, summary):
    fields = {
        "tools": [WEATHER, PATCH, AGENTS, SEARCH],
        "reasoning": {"summary": summary},
        "metadata": {"a": "b"},
        "include": ["reasoning.encrypted_content"],
    }
    streamed = daemon.respond(f"{tag} {prompt}", stream=True, **fields)
    assert streamed.headers["x-claude-proxy-ignored"] == "tools.web_search"
    last = events_of(streamed)[-1]["response"]
    whole = response_of(daemon.respond(f"{tag} {prompt}", **fields))
    assert bare(last) == bare(whole)
    assert last["usage"]["output_tokens"] == whole["usage"]["output_tokens"]
    assert whole["metadata"] == {"a": "b"}
    assert whole["model"].startswith("claude-sonnet-")


@pytest.mark.parametrize(
    ("prompt", "status", "reason"),
    [
        ("text", "completed", None),
        ("calls", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("cut call", "incomplete", "max_output_tokens"),
        ("refusal", "incomplete", "content_filter"),
    ],
)
def test_how_it_ended_is_its_status(daemon, tag, prompt, status, reason):
    response = daemon.respond(f"{tag} {PROMPTS[prompt]}", tools=[WEATHER]).json()
    assert response["status"] == status
    assert response["incomplete_details"] == (reason and {"reason": reason})
    assert (response["completed_at"] is None) is (status != "completed")
    if status == "incomplete":
        assert response["output"][-1]["status"] == "incomplete"


def test_a_refusal_has_its_words_in_a_part_of_its_own(daemon, tag):
    (message,) = daemon.respond(f"{tag} {PROMPTS['refusal']}").json()["output"]
    text, refusal = message["content"]
    assert text["text"] == "I would"
    assert refusal["type"] == "refusal"
    assert refusal["refusal"]


def test_tools_of_every_kind_come_back_as_the_client_knows_them(daemon, tag):
    told = (
        '[simulate text=So. tool=weather input=\'{"city":"Ulm"}\' '
        'tool=apply_patch input=\'{"input":"a\\nb"}\' tool=agents__close]'
    )
    tools = [WEATHER, PATCH, AGENTS, SEARCH]
    first = daemon.respond(f"{tag} {told}", tools=tools)
    message, function, custom, namespaced = first.json()["output"]
    assert message["content"][0]["text"] == "So."
    assert (function["type"], function["name"]) == ("function_call", "weather")
    assert json.loads(function["arguments"]) == {"city": "Ulm"}
    assert "namespace" not in function
    assert (custom["type"], custom["name"]) == ("custom_tool_call", "apply_patch")
    assert custom["input"] == "a\nb"
    assert (namespaced["name"], namespaced["namespace"]) == ("close", "agents")
    outputs = [
        {"type": "function_call_output", "call_id": function["call_id"], "output": "sunny"},
        {"type": "custom_tool_call_output", "call_id": custom["call_id"], "output": "done"},
        {
            "type": "function_call_output",
            "call_id": namespaced["call_id"],
            "output": [
                {"type": "input_text", "text": "closed"},
                {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
            ],
        },
    ]
    said = [message, function, custom, namespaced]
    history = [{"role": "user", "content": f"{tag} {told}"}, *said, *outputs]
    for given in (
        {"input_": history},
        {"input_": outputs, "previous_response_id": first.json()["id"]},
    ):
        answer = daemon.respond(**given, tools=tools)
        assert answer.json()["output"][0]["content"][0]["text"].count("sunny") == 1


def test_what_reaches_the_model_of_every_kind_of_tool(daemon, simulator, tag):
    daemon.respond(tag, tools=[WEATHER, PATCH, AGENTS, SEARCH])
    weather, patch, close = simulator.requests(tag)[0]["body"]["tools"]
    assert weather == {"name": "weather", "input_schema": WEATHER["parameters"]}
    assert patch["name"] == "apply_patch"
    assert patch["description"].startswith("Patches.")
    assert "start: /.+/" in patch["description"]
    assert list(patch["input_schema"]["properties"]) == ["input"]
    assert close["name"] == "agents__close"
    assert "Others." in close["description"]


@pytest.mark.parametrize(
    ("choice", "upstream"),
    [
        ("required", {"type": "any"}),
        ("none", {"type": "none"}),
        ({"type": "function", "name": "weather"}, {"type": "tool", "name": "weather"}),
        ({"type": "custom", "name": "apply_patch"}, {"type": "tool", "name": "apply_patch"}),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "custom", "name": "apply_patch"}],
            },
            {"type": "any"},
        ),
    ],
)
def test_the_choice_among_tools_is_native(daemon, simulator, tag, choice, upstream):
    answer = daemon.respond(tag, tools=[WEATHER, PATCH, SEARCH], tool_choice=choice)
    response = response_of(answer)
    assert response["tool_choice"] == choice
    body = simulator.requests(tag)[0]["body"]
    assert body["tool_choice"] == upstream
    offered = [tool["name"] for tool in body["tools"]]
    allowed = isinstance(choice, dict) and choice["type"] == "allowed_tools"
    assert offered == (["apply_patch"] if allowed else ["weather", "apply_patch"])


def test_parts_of_every_kind_arrive_as_blocks(daemon, simulator, tag):
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}
    web = {"type": "input_image", "image_url": "https://example.com/a.png"}
    file = {
        "type": "input_file",
        "filename": "a.pdf",
        "file_data": f"data:application/pdf;base64,{PDF}",
    }
    far = {"type": "input_file", "file_url": "https://example.com/a.pdf"}
    content = [{"type": "input_text", "text": tag}, image, web, file, far]
    answer = daemon.respond(
        [
            {"type": "message", "role": "developer", "content": "Second."},
            {"role": "user", "content": content},
            {
                "type": "message",
                "role": "assistant",
                "content": [
                    {"type": "output_text", "text": "Seen", "annotations": []},
                    {"type": "refusal", "refusal": "no more"},
                ],
            },
            {"role": "system", "content": "Third."},
            {"role": "user", "content": "go on"},
        ],
        instructions="First.",
    )
    response_of(answer)
    body = simulator.requests(tag)[0]["body"]
    assert system_upstream(body) == ["First.\n\nSecond."]
    png = {"type": "base64", "media_type": "image/png", "data": PNG}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": PDF}
    assert turns_upstream(body) == [
        (
            "user",
            [
                text_block(tag),
                {"type": "image", "source": png},
                {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                {"type": "document", "source": pdf, "title": "a.pdf"},
                {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
            ],
        ),
        ("assistant", [text_block("Seen"), text_block("no more")]),
        ("user", [text_block("Third."), text_block("go on")]),
    ]


def test_options_reach_the_model(daemon, simulator, tag):
    response = response_of(
        daemon.respond(tag, max_output_tokens=777, reasoning={"effort": "high"}, truncation="auto")
    )
    body = simulator.requests(tag)[0]["body"]
    assert body["max_tokens"] == 777
    assert body["output_config"]["effort"] == "high"
    assert (response["max_output_tokens"], response["truncation"]) == (777, "auto")
    assert response["reasoning"]["effort"] == "high"


class City(BaseModel):
    name: str
    size: int


def test_parse_gives_a_typed_answer(client, tag):
    value = json.dumps({"name": "Ulm", "size": 5})
    prompt = f"{tag} [simulate tool=StructuredOutput input='{value}']"
    answer = client.responses.parse(model="sonnet", input=prompt, text_format=City)
    assert answer.output_parsed == City(name="Ulm", size=5)


def test_json_object_is_json(daemon, tag):
    response = response_of(daemon.respond(tag, text={"format": {"type": "json_object"}}))
    assert isinstance(json.loads(response["output"][0]["content"][0]["text"]), dict)


def test_the_official_stream_helper_takes_it(client, tag):
    told = "[simulate thinking=2 text='one two' tool=weather input='{\"city\":\"Ulm\"}']"
    with client.responses.stream(model="sonnet", input=f"{tag} {told}", tools=[WEATHER]) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(deltas) == final.output_text == "one two"
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call"]
    assert final.output[-1].arguments == '{"city":"Ulm"}'
    assert final.usage.total_tokens == final.usage.input_tokens + final.usage.output_tokens


def test_what_is_forced_and_cannot_be_had_is_a_400(daemon):
    answer = daemon.respond("x", tools=[SEARCH], tool_choice={"type": "web_search"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tool_choice")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"max_output_tokens": 15}, "max_output_tokens"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
        ({"reasoning": {"effort": "extreme"}}, "reasoning.effort"),
        ({"text": {"format": {"type": "yaml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "a b"}}}, "text.format.name"),
        (
            {
                "text": {
                    "format": {
                        "type": "json_schema",
                        "name": "a",
                        "schema": {"type": "object", "required": "n"},
                    }
                }
            },
            "text.format.schema",
        ),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"input": []}, "input"),
        ({"input": 3}, "input"),
        ({"input": " "}, "input"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "input[0].content[0]",
        ),
        ({"input": [{"type": "computer_call"}]}, "input[0].type"),
        ({"input": [{"role": "assistant", "content": "I"}]}, "input"),
        (
            {"input": [{"type": "function_call_output", "call_id": "c9", "output": "x"}]},
            "input[0].call_id",
        ),
        (
            {
                "input": [
                    {"role": "user", "content": "x"},
                    {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
                ]
            },
            "input[1]",
        ),
    ],
)
def test_what_cannot_be_done_is_a_400_that_names_it(daemon, fields, param):
    answer = (
        daemon.respond(**{"input_": "x", **fields})
        if "input" not in fields
        else (daemon.client.post("/v1/responses", json={"model": "sonnet", **fields}))
    )
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_background_is_refused_by_the_official_client(client):
    with pytest.raises(BadRequestError) as caught:
        client.responses.create(model="sonnet", input="x", background=True)
    assert caught.value.param == "background"


def test_an_unknown_model_is_a_404(client):
    with pytest.raises(NotFoundError) as caught:
        client.responses.create(model="gpt-9", input="x")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("path", ["compact", "input_tokens"])
def test_what_is_not_there_is_a_404_and_no_response(daemon, path):
    answer = daemon.client.post(f"/v1/responses/{path}", json={"model": "sonnet", "input": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")


def test_a_wrong_method_is_told_the_right_ones(daemon):
    answer = daemon.client.put("/v1/responses/resp_1", json={})
    assert answer.status_code == 405
    assert {"GET", "DELETE"} <= set(answer.headers["allow"].split(", "))


def test_a_request_of_many_lines_makes_events_of_one(daemon, tag):
    body = {"model": "sonnet", "input": tag, "stream": True, "tools": [WEATHER, PATCH]}
    answer = daemon.client.post(
        "/v1/responses",
        content=json.dumps(body, indent=2),
        headers={"content-type": "application/json"},
    )
    assert events_of(answer)[-1]["type"] == "response.completed"


def test_it_works_without_v1(daemon, tag):
    answer = daemon.client.post("/responses", json={"model": "sonnet", "input": tag})
    assert response_of(answer)["status"] == "completed"


def test_reasoning_comes_back_in_a_stateless_turn(start, simulator, tag):
    daemon = start("--keep-alive", "0")
    include = ["reasoning.encrypted_content"]
    first = daemon.respond(
        f"{tag} [simulate thinking=2 redacted=1 text=Well.]", include=include, store=False
    ).json()
    assert [item["type"] for item in first["output"]] == ["reasoning", "reasoning", "message"]
    assert all(item["encrypted_content"] for item in first["output"][:-1])
    history = [{"role": "user", "content": tag}, *first["output"]]
    daemon.respond([*history, {"role": "user", "content": f"{tag} on"}], store=False)
    turns = turns_upstream(simulator.requests(f"{tag} on")[-1]["body"])
    assert [block["type"] for block in turns[1][1]] == ["thinking", "redacted_thinking", "text"]
    assert turns[1][1][0]["thinking"] == "step0 step1 "
    assert turns[1][1][0]["signature"]


@pytest.mark.parametrize("sealed", [None, "gAAAAABo-of-another-server", "", "AAAA"])
def test_reasoning_of_others_is_dropped_without_harm(daemon, simulator, tag, sealed):
    reasoning = {
        "type": "reasoning",
        "id": "rs_x",
        "summary": [{"type": "summary_text", "text": "hm"}],
        "content": None,
        "encrypted_content": sealed,
    }
    answer = daemon.respond(
        [
            {"role": "user", "content": tag},
            reasoning,
            {"role": "assistant", "content": "Well."},
            {"role": "user", "content": "on"},
        ]
    )
    response_of(answer)
    turns = turns_upstream(simulator.requests(tag)[-1]["body"])
    assert turns[1] == ("assistant", [text_block("Well.")])


def test_a_client_that_sends_everything_goes_on_in_the_living_process(daemon, simulator, tag):
    history = [{"role": "user", "content": f"{tag} [simulate text=one tool=weather]"}]
    first = daemon.respond(history, tools=[WEATHER], store=False)
    calls = [item for item in first.json()["output"] if item["type"] == "function_call"]
    outputs = [
        {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
        for call in calls
    ]
    history += [*first.json()["output"], *outputs]
    second = daemon.respond(history, tools=[WEATHER], store=False)
    history += [*second.json()["output"], {"role": "user", "content": f"{tag} on"}]
    third = daemon.respond(history, tools=[WEATHER], store=False)
    assert [process_of(daemon, one) for one in (second, third)] == ["continued"] * 2
    requests = [turns_upstream(one["body"]) for one in simulator.requests(tag)]
    assert by_place(requests[-1])[: len(requests[0])] == by_place(requests[0])


def test_a_message_between_a_call_and_its_output_comes_behind_it(daemon, simulator, tag):
    answer = daemon.respond(
        [
            {"role": "user", "content": tag},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": ""},
            {"role": "developer", "content": "hurry"},
            {"type": "function_call_output", "call_id": "c1", "output": "r"},
        ]
    )
    response_of(answer)
    turns = turns_upstream(simulator.requests(tag)[0]["body"])
    assert [block["type"] for block in turns[2][1]] == ["tool_result", "text"]
