"""Chat Completions: what a client may send, and what becomes of it."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.conversation import (
    Conversation,
    Document,
    Effort,
    Image,
    Message,
    Options,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from claude_proxy.errors import InvalidRequest
from claude_proxy.openai import attachments
from claude_proxy.openai.chat import request as chat

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n not really").decode()
PNG = f"data:image/png;base64,{PIXEL}"
PDF = f"data:application/pdf;base64,{PIXEL}"
HELLO = {"role": "user", "content": "hello"}


def body(*messages, **more) -> bytes:
    return json.dumps({"messages": messages or [HELLO], **more}).encode()


def translated(*messages, sampling: bool = False, **more) -> Conversation:
    return chat.to_conversation(chat.decode(body(*messages, **more)), "opus", sampling=sampling)


def refused(data: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        chat.to_conversation(chat.decode(data), "opus", sampling=True)
    assert caught.value.status == 400
    assert caught.value.message
    return caught.value


def user(content) -> dict:
    return {"role": "user", "content": content}


def call(id_: str = "call_1", name: str = "f", arguments: str = "{}") -> dict:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls, **more) -> dict:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **more}


def result(id_: str = "call_1", content="done") -> dict:
    return {"role": "tool", "tool_call_id": id_, "content": content}


# Decoding


@pytest.mark.parametrize(
    ("data", "param"),
    [
        (b"[]", None),
        (b'"x"', None),
        (b'{"messages": null}', "messages"),
        (b'{"messages": []}', "messages"),
        (b'{"messages": "hi"}', "messages"),
        (body({"role": "wizard", "content": "x"}), "messages[0].role"),
        (body(HELLO, {"role": "function", "name": "f"}), "messages[1].content"),
        (body(HELLO, user(7)), "messages[1].content"),
        (body(user([{"type": "video"}])), "messages[0].content[0].type"),
        (body(user([{"type": "text", "text": 1}])), "messages[0].content[0].text"),
        (body(user([{"type": "image_url", "image_url": 7}])), "messages[0].content[0].image_url"),
        (body(HELLO, calling({**call(), "type": "custom"})), "messages[1].tool_calls[0].type"),
        (
            body(HELLO, calling({"id": "1", "function": {"name": "f", "arguments": {}}})),
            "messages[1].tool_calls[0].function.arguments",
        ),
        (body(stream="yes"), "stream"),
        (body(stream_options={"include_usage": "yes"}), "stream_options.include_usage"),
        (body(max_tokens=0), "max_tokens"),
        (body(max_completion_tokens=-1), "max_completion_tokens"),
        (body(max_tokens=1.5), "max_tokens"),
        (body(stop=["a", "b", "c", "d", "e"]), "stop"),
        (body(stop=7), "stop"),
        (body(stop=["a", 1]), "stop[1]"),
        (body(reasoning_effort="huge"), "reasoning_effort"),
        (body(temperature=-0.1), "temperature"),
        (body(temperature=2.1), "temperature"),
        (body(top_p=1.1), "top_p"),
        (body(frequency_penalty=3), "frequency_penalty"),
        (body(presence_penalty=-3), "presence_penalty"),
        (body(n=0), "n"),
        (body(top_logprobs=21), "top_logprobs"),
        (body(model=4), "model"),
        (body(tools={}), "tools"),
        (body(functions=[{}]), "functions[0].name"),
        (body(tool_choice=7), "tool_choice"),
        (body(parallel_tool_calls="no"), "parallel_tool_calls"),
        (body(response_format={}), "response_format.type"),
    ],
)
def test_a_wrong_type_or_range_is_refused_at_its_place(data, param):
    assert refused(data).param == param


def test_missing_messages_are_named():
    """OpenAI: Missing required parameter: 'messages', param 'messages'."""
    assert refused(b'{"model": "opus"}').param == "messages"


@pytest.mark.parametrize("value", ["x - at `$.evil", "`", "' - at `$[0]"])
def test_a_value_of_the_client_cannot_move_the_place(value):
    assert refused(body({"role": value, "content": "x"})).param == "messages[0].role"


def test_a_long_value_of_the_client_is_not_repeated_whole():
    assert len(refused(body({"role": "x" * 100_000, "content": "x"})).message) < 1_000


@pytest.mark.parametrize("data", [b"", b"{", b"hello", b"\xff", b'{"messages": [NaN]}', b"\x00"])
def test_what_is_no_json_is_refused_as_such(data):
    error = refused(data)
    assert error.param is None
    assert "not valid JSON" in error.message


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize("name", [b"metadata", b"tool_choice", b"messages", b"audio"])
def test_json_nested_too_deeply_is_refused_not_a_crash(name):
    data = body()[:-1] + b', "' + name + b'": ' + DEEP + b"}"
    refused(data)


def test_tool_arguments_nested_too_deeply_are_refused_not_a_crash():
    arguments = '{"a": ' + DEEP.decode() + "}"
    error = refused(body(HELLO, calling(call(arguments=arguments)), result()))
    assert error.param == "messages[1].tool_calls[0].function.arguments"


def test_unknown_fields_of_other_vendors_are_skipped_everywhere():
    messages = [
        {**HELLO, "name": "me", "cache_control": {"type": "ephemeral"}},
        {"role": "assistant", "content": "hi", "reasoning_content": "hm", "annotations": []},
        user([{"type": "text", "text": "x", "annotations": [], "cache_control": {}}]),
    ]
    conversation = translated(*messages, top_k=5, provider={"order": []}, think=True)
    assert [part for message in conversation.messages for part in message.parts] == [
        Text("hello"),
        Text("hi"),
        Text("x"),
    ]


@given(st.binary(max_size=40), st.integers(0, 60), st.integers(0, 8))
def test_any_body_is_decoded_or_refused_and_never_a_crash(noise, at, removed):
    whole = body(user("hi"), stop=["x"], metadata={"a": 1})
    data = whole[:at] + noise + whole[at + removed :]
    try:
        request = chat.decode(data)
        chat.to_conversation(request, "opus", sampling=False)
    except InvalidRequest:
        return
    assert all(isinstance(name, str) for name in chat.ignored(data, sampling=False))


def test_a_key_that_is_not_utf8_is_refused_or_skipped():
    data = body()[:-1] + b', "\xff": 1}'
    try:
        chat.decode(data)
    except InvalidRequest:
        return
    assert chat.ignored(data, sampling=False) == []


# What is not there


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("n", 2),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy", "format": "mp3"}),
        ("web_search_options", {}),
    ],
)
def test_what_would_change_the_answer_and_is_not_there_is_refused(param, value):
    error = refused(body(**{param: value}))
    assert (error.param, error.code) == (param, "unsupported_parameter")


def test_a_choice_without_its_tools_is_refused():
    function_call = refused(body(function_call={"name": "f"}, tools=[{"function": {"name": "f"}}]))
    assert function_call.param == "function_call"
    choice = {"type": "function", "function": {"name": "f"}}
    assert refused(body(tool_choice=choice, functions=[{"name": "f"}])).param == "tool_choice"


def test_the_old_and_the_new_form_of_tools_do_not_go_together():
    error = refused(body(tools=[{"function": {"name": "f"}}], functions=[{"name": "g"}]))
    assert (error.param, error.code) == ("functions", "unsupported_parameter")


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("n", 1),
        ("n", None),
        ("logprobs", False),
        ("top_logprobs", 0),
        ("modalities", ["text"]),
        ("audio", None),
        ("tools", []),
        ("tools", None),
        ("functions", []),
        ("tool_choice", "none"),
        ("tool_choice", "auto"),
        ("function_call", "auto"),
        ("response_format", {"type": "text"}),
        ("parallel_tool_calls", True),
        ("web_search_options", None),
    ],
)
def test_the_values_that_change_nothing_are_taken(param, value):
    data = body(**{param: value})
    assert chat.decode(data).messages
    assert chat.ignored(data, sampling=False) == []


@pytest.mark.parametrize(
    ("sampling", "names"),
    [(False, ["temperature", "top_p", "seed", "user"]), (True, ["seed", "user"])],
)
def test_what_is_set_without_effect_is_named_in_its_order(sampling, names):
    data = body(
        model="opus",
        temperature=0,
        top_p=1,
        stop=["x"],
        seed=1,
        user="me",
        store=None,
        stream=True,
        stream_options={"include_usage": True},
        reasoning_effort="low",
        max_tokens=5,
        max_completion_tokens=6,
    )
    assert chat.ignored(data, sampling=sampling) == names


def test_only_names_that_a_header_can_carry_are_named_and_not_without_end():
    strange = {"a b": 1, "ü": 1, "x\r\ny": 1, "": 1, "y" * 65: 1, "fine-1.0": 1}
    assert chat.ignored(body(**strange), sampling=False) == ["fine-1.0"]
    assert len(chat.ignored(body(**{f"p{n}": n for n in range(99)}), sampling=False)) == 32


# Options


@pytest.mark.parametrize(
    ("given_options", "expected"),
    [
        ({}, Options()),
        ({"max_tokens": 5}, Options(max_tokens=5)),
        ({"max_tokens": 5, "max_completion_tokens": 7}, Options(max_tokens=7)),
        ({"max_tokens": None}, Options()),
        ({"stop": "END"}, Options(stop=("END",))),
        ({"stop": ["a", " b\n"]}, Options(stop=("a", " b\n"))),
        ({"stop": []}, Options()),
        ({"stop": None}, Options()),
        *(({"reasoning_effort": effort.value}, Options(effort=effort)) for effort in Effort),
    ],
)
def test_options_are_passed_on(given_options, expected):
    assert translated(**given_options).options == expected


@pytest.mark.parametrize(
    ("sampling", "expected"), [(True, Options(temperature=0.0, top_p=0.5)), (False, Options())]
)
def test_sampling_is_passed_on_only_when_wanted(sampling, expected):
    assert translated(temperature=0, top_p=0.5, sampling=sampling).options == expected


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
FUNCTION = {"name": "f", "parameters": {"type": "object"}}
F = Tool("f", '{"type": "object"}')


@pytest.mark.parametrize(
    ("fields", "choice"),
    [
        ({"tools": [TOOL]}, ToolChoice()),
        ({"tools": [TOOL], "parallel_tool_calls": False}, ToolChoice(parallel=False)),
        ({"tools": [TOOL], "parallel_tool_calls": None}, ToolChoice()),
        ({"tools": [TOOL], "tool_choice": "required"}, ToolChoice(ToolUse.REQUIRED)),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
            ToolChoice(ToolUse.REQUIRED, "f"),
        ),
        ({"functions": [FUNCTION]}, ToolChoice(parallel=False)),
        ({"functions": [FUNCTION], "tools": []}, ToolChoice(parallel=False)),
        (
            {"functions": [FUNCTION], "function_call": "none"},
            ToolChoice(ToolUse.NONE, parallel=False),
        ),
        (
            {"functions": [FUNCTION], "function_call": {"name": "f"}},
            ToolChoice(ToolUse.REQUIRED, "f", parallel=False),
        ),
    ],
)
def test_tools_and_the_choice_among_them_are_passed_on_in_either_form(fields, choice):
    conversation = translated(**fields)
    assert conversation.tools == (F,)
    assert conversation.options.tool_choice == choice
    assert chat.ignored(body(**fields), sampling=False) == []


@pytest.mark.parametrize(
    ("form", "schema"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, '{"type":"object"}'),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
            '{"type": "object"}',
        ),
    ],
)
def test_the_format_of_the_answer_is_passed_on_as_a_schema(form, schema):
    conversation = translated(response_format=form)
    assert conversation.schema == schema
    assert conversation.tools == ()


@pytest.mark.parametrize("stop", ["", " \n", ["a", ""]])
def test_a_blank_stop_sequence_is_refused_for_the_api_takes_none(stop):
    assert refused(body(stop=stop)).param == "stop"


# Messages


def test_leading_system_and_developer_messages_are_the_system_prompt():
    conversation = translated(
        {"role": "system", "content": "one"},
        {"role": "developer", "content": [{"type": "text", "text": "two"}, text_part("!")]},
        {"role": "system", "content": ""},
        HELLO,
    )
    assert conversation.system == "one\n\ntwo!"
    assert conversation.messages == (Message("user", (Text("hello"),)),)
    assert conversation.model == "opus"


def text_part(text: str) -> dict:
    return {"type": "text", "text": text}


def test_a_later_system_message_stays_in_its_place_as_a_users():
    conversation = translated(HELLO, {"role": "system", "content": " be brief "}, user("go"))
    assert conversation.system == ""
    assert [message.role for message in conversation.messages] == ["user"] * 3
    assert conversation.messages[1].parts == (Text(" be brief "),)


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_prompt_is_text_only(role):
    image = {"type": "image_url", "image_url": {"url": PNG}}
    error = refused(body({"role": role, "content": [text_part("x"), image]}, HELLO))
    assert error.param == "messages[0].content[1]"


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        (user("text"), (Text("text"),)),
        (user(None), ()),
        (user([]), ()),
        (user([text_part("a"), text_part("b")]), (Text("a"), Text("b"))),
        (
            user([{"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}]),
            (Image("image/png", PIXEL),),
        ),
        (user([{"type": "image_url", "image_url": PNG}]), (Image("image/png", PIXEL),)),
        (
            user([{"type": "image_url", "image_url": {"url": "https://x.example/y"}}]),
            (Image(url="https://x.example/y"),),
        ),
        (
            user([{"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}}]),
            (Document(PIXEL, "a.pdf"),),
        ),
        (user([{"type": "file", "file": {"file_data": PDF}}]), (Document(PIXEL),)),
    ],
)
def test_every_form_of_a_users_content(message, parts):
    assert translated(message).messages == (Message("user", parts),)


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ({"content": "text"}, (Text("text"),)),
        ({"content": [text_part("a")]}, (Text("a"),)),
        ({"content": [{"type": "refusal", "refusal": "no"}]}, (Text("no"),)),
        ({"content": None, "refusal": "no"}, (Text("no"),)),
        ({"content": "a", "refusal": None, "tool_calls": None}, (Text("a"),)),
        ({"content": "a", "tool_calls": []}, (Text("a"),)),
        ({}, ()),
    ],
)
def test_every_form_of_an_assistants_content(message, parts):
    conversation = translated(HELLO, {"role": "assistant", **message}, HELLO)
    assert conversation.messages[1] == Message("assistant", parts)


@pytest.mark.parametrize("final", [{"content": "x"}, {"content": None}, {}])
def test_the_last_message_cannot_be_the_assistants(final):
    error = refused(body({"role": "system", "content": "s"}, HELLO, {"role": "assistant", **final}))
    assert error.param == "messages[2].role"


def test_audio_is_refused_at_its_place():
    audio = {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}
    error = refused(body(HELLO, user([text_part("x"), audio])))
    assert (error.param, error.code) == ("messages[1].content[1]", "unsupported_value")


# Data URLs


@pytest.mark.parametrize(
    ("url", "media_type", "data"),
    [
        ("data:image/jpeg;base64,QUI=", "image/jpeg", "QUI="),
        ("data:image/jpg;base64,QUI=", "image/jpeg", "QUI="),
        ("DATA:Image/GIF;BASE64,QUI=", "image/gif", "QUI="),
        ("data:image/webp;name=a.webp;charset=utf-8;base64,QUI=", "image/webp", "QUI="),
        ("data:image/png;base64,QUI", "image/png", "QUI="),
        ("data:image/png;base64,Q\r\nUI=\n", "image/png", "QUI="),
        ("data:image/png;base64,_-8=", "image/png", "/+8="),
    ],
)
def test_data_urls_are_read_as_clients_write_them(url, media_type, data):
    assert attachments.parse_data_url(url, "here") == (media_type, data)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x.png",
        "ftp://x.example/y.png",
        "data:image/png,raw",
        "data:;base64,QUI=",
        "data:image/svg+xml;base64,QUI=",
        "data:application/pdf;base64,QUI=",
        "data:image/png;base64,Q",
        "data:image/png;base64,Q?I=",
        "data:image/png;base64,QUI=QUI=",
        "data:image/png;base64,ü",
        "data:image/png;base64,====",
        "data:image/png;base64,",
        f"data:image/gif;base64,{PIXEL}",
        "data:image/png;base64,aGVsbG8=",
    ],
)
def test_a_picture_that_cannot_be_read_is_refused_at_its_place(url):
    error = refused(body(user([text_part("x"), {"type": "image_url", "image_url": {"url": url}}])))
    assert error.param == "messages[0].content[1].image_url.url"
    assert error.code == "invalid_value"


@pytest.mark.parametrize(
    "file",
    [{"file_id": "file-1"}, {}, {"file_data": PIXEL}, {"file_data": PNG}, {"file_data": PDF[:-3]}],
)
def test_a_file_must_be_a_pdf_that_can_be_read(file):
    error = refused(body(user([{"type": "file", "file": file}])))
    assert error.param == "messages[0].content[0].file.file_data"


@given(st.binary(min_size=1), st.sampled_from(["\n", "\r\n", " "]), st.booleans(), st.booleans())
def test_base64_is_the_same_bytes_however_it_was_written(raw, gap, urlsafe, padded):
    encode = base64.urlsafe_b64encode if urlsafe else base64.b64encode
    text = encode(raw).decode().rstrip("=" if not padded else "")
    url = "data:application/pdf;base64," + gap.join(
        text[at : at + 5] for at in range(0, len(text), 5)
    )
    (message,) = translated(user([{"type": "file", "file": {"file_data": url}}])).messages
    assert message.parts == (Document(base64.b64encode(raw).decode()),)


# Tool calls and their results


def test_calls_and_results_are_translated_in_order():
    conversation = translated(
        HELLO,
        calling(call("a", "one", ' {"x": 1}'), call("b", "two", ""), content="wait"),
        result("b", [text_part("2"), {"type": "image_url", "image_url": PNG}]),
        result("a", None),
        user("so?"),
    )
    assert conversation.messages[1:] == (
        Message(
            "assistant",
            (Text("wait"), ToolCall("a", "one", '{"x": 1}'), ToolCall("b", "two", "{}")),
        ),
        Message("user", (ToolResult("b", (Text("2"), Image("image/png", PIXEL))),)),
        Message("user", (ToolResult("a", ()),)),
        Message("user", (Text("so?"),)),
    )


def test_a_call_needs_no_type_and_an_assistant_no_content():
    bare = {"id": "call_1", "function": {"name": "f"}}
    conversation = translated(HELLO, {"role": "assistant", "tool_calls": [bare]}, result())
    assert conversation.messages[1].parts == (ToolCall("call_1", "f", "{}"),)


@pytest.mark.parametrize("arguments", ["x", "[]", "null", '"x"', '{"a": 1', '{"a": "\\ud800"}'])
def test_arguments_must_be_a_json_object(arguments):
    error = refused(body(HELLO, calling(call(arguments=arguments)), result()))
    assert error.param == "messages[1].tool_calls[0].function.arguments"


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([HELLO, result()], "messages[1].tool_call_id"),
        ([HELLO, calling(call("a")), result("b")], "messages[2].tool_call_id"),
        ([HELLO, calling(call("a")), result("a"), result("a")], "messages[3].tool_call_id"),
        ([HELLO, calling(call("a")), HELLO, result("a")], "messages[1].tool_calls[0]"),
        ([HELLO, calling(call("a")), HELLO], "messages[1].tool_calls[0]"),
        ([HELLO, calling(call("a"), call("b")), result("a")], "messages[1].tool_calls[1]"),
        ([HELLO, calling(call("a"), call("a")), result("a")], "messages[1].tool_calls[1].id"),
        ([HELLO, calling(call("a")), calling(call("b")), result("b")], "messages[1].tool_calls[0]"),
        ([HELLO, calling(call("a"))], "messages[1].role"),
    ],
    ids=[
        "no call",
        "other id",
        "twice",
        "too late",
        "none",
        "one of two",
        "same id",
        "next",
        "end",
    ],
)
def test_every_call_is_answered_once_right_after_it(messages, param):
    assert refused(body(*messages)).param == param


# Nothing is lost

texts = st.text(max_size=8)
binaries = st.binary(min_size=1, max_size=8)
pdfs = binaries.map(lambda raw: base64.b64encode(raw).decode())
BEGINNINGS = {
    "image/jpeg": b"\xff\xd8\xff",
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/gif": b"GIF89a",
    "image/webp": b"RIFF\x00\n\xff\x01WEBP",
}
pictures = st.builds(
    lambda kind, raw: Image(kind, base64.b64encode(BEGINNINGS[kind] + raw).decode()),
    st.sampled_from(sorted(BEGINNINGS)),
    binaries,
)
media = st.one_of(
    texts.map(Text),
    pictures,
    st.just(Image(url="https://x.example/y.png")),
    st.builds(Document, pdfs, st.none() | texts),
)
objects = st.dictionaries(texts, st.none() | st.integers() | texts | st.lists(st.booleans()))


@st.composite
def exchanges(draw) -> list[Message]:
    """A user's message, the assistant's, and the results of its calls."""
    ids = draw(st.lists(texts, max_size=3, unique=True))
    calls = [ToolCall(id_, draw(texts), json.dumps(draw(objects))) for id_ in ids]
    said = [Text(text) for text in draw(st.lists(texts, max_size=2))]
    results = [ToolResult(id_, tuple(draw(st.lists(media, max_size=2)))) for id_ in ids]
    return [
        Message("user", tuple(draw(st.lists(media, max_size=3)))),
        Message("assistant", (*said, *calls)),
        *(Message("user", (item,)) for item in draw(st.permutations(results))),
    ]


histories = st.builds(
    lambda turns, last: (*(message for turn in turns for message in turn), last),
    st.lists(exchanges(), max_size=3),
    st.lists(media, min_size=1, max_size=3).map(lambda parts: Message("user", tuple(parts))),
)


def written_part(part) -> dict:
    match part:
        case Text(text=text):
            return text_part(text)
        case Image(url=url) if url:
            return {"type": "image_url", "image_url": {"url": url}}
        case Image(media_type=media_type, data=data):
            return {"type": "image_url", "image_url": f"data:{media_type};base64,{data}"}
        case Document(data=data, title=title):
            url = f"data:application/pdf;base64,{data}"
            return {"type": "file", "file": {"file_data": url, "filename": title}}


def written(message: Message) -> dict:
    """A neutral message as a client would send it."""
    if message.parts and isinstance(message.parts[0], ToolResult):
        (item,) = message.parts
        return result(item.call_id, [written_part(part) for part in item.parts])
    calls = [call(p.id, p.name, p.arguments) for p in message.parts if isinstance(p, ToolCall)]
    content = [written_part(part) for part in message.parts if not isinstance(part, ToolCall)]
    whole = {"role": message.role, "content": content}
    return {**whole, "tool_calls": calls} if calls else whole


@given(st.lists(texts.filter(bool), max_size=2), histories)
def test_any_valid_conversation_is_translated_without_loss(system, history):
    leading = [{"role": "system", "content": text} for text in system]
    conversation = translated(*leading, *map(written, history))
    assert conversation == Conversation("opus", "\n\n".join(filter(str.strip, system)), history)
