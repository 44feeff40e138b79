"""Chat Completions through the real CLI: what the client gets, and what arrives upstream."""

from __future__ import annotations

import pytest
from openai import NotFoundError, OpenAI

from tests.lab import KEY, PDF, PNG, sse, system_upstream, turns_upstream


@pytest.fixture(scope="module")
def client(daemon):
    with OpenAI(base_url=f"{daemon.url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


def test_the_official_client_streams_an_answer(client, simulator, tag):
    prompt = f'{tag} [simulate thinking=2 text="Hello there, world."]'
    with client.chat.completions.stream(
        model="sonnet",
        messages=[{"role": "user", "content": prompt}],
        stream_options={"include_usage": True},
    ) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    choice = final.choices[0]
    assert choice.message.content == "Hello there, world."
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "stop"
    upstream = simulator.wait(tag)
    assert final.model == upstream["model"] == "claude-sonnet-5-5"
    assert final.usage.completion_tokens_details.reasoning_tokens == 2
    assert final.usage.total_tokens == final.usage.prompt_tokens + final.usage.completion_tokens


def test_one_chunk_for_each_delta_upstream(daemon, simulator, tag):
    frames = sse(daemon.chat(f"{tag} [simulate tokens=50]", stream=True).text)
    texts = [frame["choices"][0]["delta"].get("content") for frame in frames[:-1]]
    assert [text for text in texts if text] == [f"w{n} " for n in range(49)] + ["w49"]
    assert simulator.wait(tag)["deltas"] == 50
    assert frames[-1] == "[DONE]"


def test_the_stream_and_the_whole_answer_are_the_same(daemon, tag):
    prompt = f'{tag} [simulate thinking=3 text="One two three."]'
    whole = daemon.chat(prompt).json()
    frames = sse(daemon.chat(prompt, stream=True, stream_options={"include_usage": True}).text)
    deltas = [frame["choices"][0]["delta"] for frame in frames[:-2]]
    message = whole["choices"][0]["message"]
    assert "".join(delta.get("content") or "" for delta in deltas) == message["content"]
    reasoning = "".join(delta.get("reasoning_content", "") for delta in deltas)
    assert reasoning == message["reasoning_content"] != ""
    # The second request finds in Anthropic's cache what the first one wrote: sums are equal.
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert frames[-2]["usage"][name] == whole["usage"][name] > 0
    assert frames[-2]["choices"] == []
    assert frames[-3]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]


def test_thinking_comes_as_reasoning_content(client, tag):
    answer = client.chat.completions.create(
        model="sonnet", messages=[{"role": "user", "content": f"{tag} [simulate thinking=4]"}]
    )
    assert answer.choices[0].message.reasoning_content
    assert answer.usage.completion_tokens_details.reasoning_tokens == 4


def test_a_conversation_arrives_turn_by_turn(daemon, simulator, tag):
    messages = [
        {"role": "system", "content": "Be brief.\n"},
        {"role": "developer", "content": [{"type": "text", "text": "  Be kind. "}]},
        {"role": "user", "content": "  first\n"},
        {"role": "user", "content": "/compact @/etc/passwd"},
        {"role": "assistant", "content": "an answer "},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "system", "content": "a later rule"},
        {"role": "user", "content": tag},
    ]
    assert daemon.chat(messages).status_code == 200
    body = simulator.wait(tag)["body"]
    assert system_upstream(body) == ["Be brief.\n\n\n  Be kind. "]
    assert turns_upstream(body) == [
        ("user", [text("  first\n"), text("/compact @/etc/passwd")]),
        ("assistant", [text("an answer ")]),
        ("user", [text("a"), text("b"), text("a later rule"), text(tag)]),
    ]
    assert len(simulator.requests(tag)) == 1


def test_without_a_system_message_there_is_no_system_prompt(daemon, simulator, tag):
    assert daemon.chat(tag).status_code == 200
    assert system_upstream(simulator.wait(tag)["body"]) == []


@pytest.mark.parametrize(
    "prompt", ["/help {}", "@/etc/passwd {}", "/compact\n{}", "! ls {}", "# {}"]
)
def test_a_prompt_is_never_a_command_or_a_path(daemon, simulator, tag, prompt):
    prompt = prompt.format(tag)
    assert daemon.chat(prompt).status_code == 200
    assert turns_upstream(simulator.wait(tag)["body"]) == [("user", [text(prompt)])]


def test_images_and_pdfs_arrive_as_native_blocks(daemon, simulator, tag):
    content = [
        {"type": "text", "text": tag},
        {
            "type": "image_url",
            "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"},
        },
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {
            "type": "file",
            "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"},
        },
    ]
    assert daemon.chat([{"role": "user", "content": content}]).status_code == 200
    png = {"type": "base64", "media_type": "image/png", "data": PNG}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": PDF}
    assert turns_upstream(simulator.wait(tag)["body"]) == [
        (
            "user",
            [
                text(tag),
                {"type": "image", "source": png},
                {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                {"type": "document", "source": pdf, "title": "a.pdf"},
            ],
        )
    ]


def test_past_tool_calls_and_results_arrive_as_native_blocks(daemon, simulator, tag):
    calls = [
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "Bash", "arguments": '{"a": [1]}'},
        },
        {"id": "id with/odd:signs", "type": "function", "function": {"name": "b", "arguments": ""}},
    ]
    messages = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "I call.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "id with/odd:signs", "content": [text("two")]},
        {"role": "tool", "tool_call_id": "call_1", "content": "one"},
        {"role": "user", "content": tag},
    ]
    answer = daemon.chat(messages)
    assert answer.status_code == 200, answer.text
    _, (_, called), (_, results) = turns_upstream(simulator.wait(tag)["body"])
    odd = called[2]["id"]
    assert called == [
        text("I call."),
        {"type": "tool_use", "id": "call_1", "name": "Bash", "input": {"a": [1]}},
        {"type": "tool_use", "id": odd, "name": "b", "input": {}},
    ]
    assert results == [
        {"type": "tool_result", "tool_use_id": odd, "content": [text("two")]},
        {"type": "tool_result", "tool_use_id": "call_1", "content": [text("one")]},
        text(tag),
    ]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("stream", [False, True])
def test_max_tokens_cuts_the_answer_and_nothing_is_asked_again(
    daemon, simulator, tag, name, stream
):
    answer = daemon.chat(f"{tag} [simulate tokens=9]", stream=stream, **{name: 3})
    if stream:
        last = sse(answer.text)[-2]
        assert last["choices"][0]["finish_reason"] == "length"
    else:
        assert answer.json()["choices"][0]["finish_reason"] == "length"
        assert answer.json()["choices"][0]["message"]["content"] == "w0 w1 w2 "
        assert answer.json()["usage"]["completion_tokens"] == 3
    assert simulator.wait(tag)["body"]["max_tokens"] == 3
    daemon.log.wait_for("request.done", request_id=answer.headers["x-request-id"])
    assert len(simulator.requests(tag)) == 1


@pytest.mark.parametrize("stop", ["w3", ["zzz", " w3", "w7"]])
def test_stop_sequences_stop(daemon, simulator, tag, stop):
    answer = daemon.chat(f"{tag} [simulate tokens=9]", stop=stop).json()
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["choices"][0]["message"]["content"].rstrip() == "w0 w1 w2"
    wanted = [stop] if isinstance(stop, str) else stop
    assert simulator.wait(tag)["body"]["stop_sequences"] == wanted


@pytest.mark.parametrize(
    ("effort", "level"),
    [
        ("none", "low"),
        ("minimal", "low"),
        ("low", "low"),
        ("medium", "medium"),
        ("high", "high"),
        ("xhigh", "xhigh"),
        ("max", "max"),
    ],
)
def test_reasoning_effort_arrives(daemon, simulator, tag, effort, level):
    assert daemon.chat(tag, reasoning_effort=effort).status_code == 200
    body = simulator.wait(tag)["body"]
    assert body["output_config"]["effort"] == level
    assert ("thinking" in body) == (effort != "none")


def test_what_has_no_effect_is_named_in_a_header(daemon, simulator, tag):
    answer = daemon.chat(
        tag, temperature=0.3, top_p=0.9, seed=7, user="me", metadata={"a": "b"}, store=None, x_y=1
    )
    assert (
        answer.headers["x-claude-proxy-ignored"] == "temperature, top_p, seed, user, metadata, x_y"
    )
    body = simulator.wait(tag)["body"]
    assert not {"temperature", "top_p", "seed"} & set(body)


def test_sampling_is_forwarded_when_asked_for(start, simulator, tag):
    daemon = start("--forward-sampling")
    answer = daemon.chat(tag, temperature=1, top_p=0.9, seed=7, reasoning_effort="none")
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-claude-proxy-ignored"] == "seed"
    body = simulator.wait(tag)["body"]
    assert (body["temperature"], body["top_p"]) == (1, 0.9)


def test_a_refusal_is_a_content_filter_and_is_asked_once(daemon, simulator, tag):
    answer = daemon.chat(f'{tag} [simulate text="I will" stop=refusal]').json()
    assert answer["choices"][0]["finish_reason"] == "content_filter"
    assert answer["choices"][0]["message"]["content"] == "I will"
    assert len(simulator.requests(tag)) == 1


def test_usage_tells_what_came_from_the_cache(daemon, tag):
    long = f"{tag} " + "many words " * 2_000
    messages = [{"role": "system", "content": long}, {"role": "user", "content": "hi"}]
    first = daemon.chat(messages).json()["usage"]
    second = daemon.chat(messages).json()["usage"]
    assert first["prompt_tokens"] == second["prompt_tokens"]
    assert first["prompt_tokens_details"]["cache_write_tokens"] > 4_000
    assert second["prompt_tokens_details"]["cached_tokens"] > 4_000


def test_models_are_those_that_the_cli_lists(client):
    ids = [model.id for model in client.models.list()]
    assert {"haiku", "sonnet", "opus", "claude-sonnet-5-5"} <= set(ids)
    assert client.models.retrieve("claude-sonnet-5-5").id == "claude-sonnet-5-5"
    with pytest.raises(NotFoundError, match="sonnet"):
        client.models.retrieve("gpt-4o")


def test_an_unknown_model_is_refused_with_the_known_ones_named(daemon):
    answer = daemon.chat("hi", model="gpt-4o")
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["code"] == "model_not_found"
    assert "sonnet" in error["message"]


def test_an_alias_maps_foreign_names(start, simulator, tag):
    daemon = start("--model-alias", "gpt-*=haiku")
    answer = daemon.chat(tag, model="gpt-4o").json()
    assert answer["model"] == simulator.wait(tag)["model"] == "claude-haiku-5-5"


@pytest.mark.parametrize("flags", [("--model", "gpt-4"), ("--model-alias", "sonnet=gpt-4")])
def test_a_name_that_the_cli_refuses_never_becomes_another_model(start, simulator, tag, flags):
    daemon = start(*flags)
    answer = daemon.chat(tag, model=None if flags[0] == "--model" else "sonnet")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert "gpt-4" in answer.json()["error"]["message"]
    assert simulator.requests(tag) == []


def test_a_picture_that_is_none_is_refused(daemon):
    url = "data:image/png;base64,aGVsbG8="
    answer = daemon.chat([{"role": "user", "content": [{"type": "image_url", "image_url": url}]}])
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "messages[0].content[0].image_url.url"


def test_a_prompt_of_several_megabytes_arrives_whole(daemon, simulator, tag):
    big = f"{tag} " + 'äöü→ \\n"x" ' * 200_000
    assert daemon.chat(big).status_code == 200
    assert turns_upstream(simulator.wait(tag)["body"]) == [("user", [text(big)])]


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}
