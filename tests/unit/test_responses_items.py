"""Input items of the Responses API, and the conversation that they are."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_proxy.conversation import (
    Conversation,
    Document,
    Image,
    Message,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)
from claude_proxy.errors import InvalidRequest, NotFound, ProxyError
from claude_proxy.openai.responses import request as wire
from claude_proxy.openai.responses.freeform import to_arguments
from claude_proxy.openai.responses.items import TRACES, read_history
from claude_proxy.openai.responses.reasoning import digest, seal, unseal
from claude_proxy.openai.responses.request import Wanted

# A busy machine is no failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n not really").decode()
PNG = f"data:image/png;base64,{PIXEL}"
PDF = f"data:application/pdf;base64,{PIXEL}"
WEB = "https://example.org/x.png"
TOOLS = [
    {"type": "function", "name": "f"},
    {"type": "custom", "name": "shell"},
    {
        "type": "namespace",
        "name": "n",
        "tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "patch"}],
    },
]
HELLO = {"role": "user", "content": "hello"}
THOUGHT = Reasoning("Let me see", "sig", "claude-x")
REDACTED = Reasoning("", "data", "claude-x", redacted=True)
SEALED = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": seal(THOUGHT)}


def nothing(_: str) -> None:
    return None


def resolved(items, *, kept=None, context=None, **more) -> Wanted:
    body = json.dumps({"input": items, "tools": TOOLS, **more}).encode()
    return wire.resolve(wire.decode(body), (kept or {}).get, (context or {}).get)


def conversation(items, **more) -> Conversation:
    return wire.to_conversation(resolved(items, **more), "m", sampling=True)


def messages(*items, **more) -> list[tuple]:
    """Role and parts of each message."""
    return [(m.role, *m.parts) for m in conversation(list(items), **more).messages]


def refused(*items, **more) -> ProxyError:
    with pytest.raises(ProxyError) as caught:
        conversation(list(items), **more)
    assert caught.value.message
    return caught.value


def user(content) -> dict:
    return {"role": "user", "content": content}


def assistant(content) -> dict:
    return {"role": "assistant", "content": content}


def call(id_: str = "a", name: str = "f", arguments: str = "{}", **more) -> dict:
    item = {"type": "function_call", "call_id": id_, "name": name, "arguments": arguments}
    return {**item, **more}


def custom(id_: str = "a", name: str = "shell", text: str = "ls", **more) -> dict:
    item = {"type": "custom_tool_call", "call_id": id_, "name": name, "input": text}
    return {**item, **more}


def output(id_: str = "a", said="done", kind: str = "function_call_output") -> dict:
    return {"type": kind, "call_id": id_, "output": said}


def result(id_: str = "a", *parts) -> ToolResult:
    return ToolResult(id_, parts or (Text("done"),))


CALL = ToolCall("a", "f", "{}")


# Messages


def test_a_string_is_the_users_message():
    assert conversation("hello").messages == (Message("user", (Text("hello"),)),)


@pytest.mark.parametrize("kind", [{}, {"type": "message"}, {"type": None}])
@pytest.mark.parametrize("content", ["hi", [{"type": "input_text", "text": "hi"}]])
def test_easy_and_typed_messages(kind, content):
    item = {**kind, "role": "user", "content": content, "id": "msg_1", "status": "completed"}
    assert messages(item) == [("user", Text("hi"))]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "input_text", "text": " a\n"}, Text(" a\n")),
        ({"type": "output_text", "text": "a", "annotations": [], "logprobs": []}, Text("a")),
        ({"type": "text", "text": "a"}, Text("a")),
        ({"type": "refusal", "refusal": "no"}, Text("no")),
        ({"type": "input_image", "image_url": PNG, "detail": "low"}, Image("image/png", PIXEL)),
        ({"type": "input_image", "image_url": WEB}, Image(url=WEB)),
        (
            {"type": "input_file", "file_data": PDF, "filename": "a.pdf"},
            Document(PIXEL, "a.pdf"),
        ),
        ({"type": "input_file", "file_url": WEB}, Document("", None, WEB)),
        (
            {"type": "input_file", "file_url": WEB, "file_data": None, "filename": "b"},
            Document("", "b", WEB),
        ),
    ],
)
@pytest.mark.parametrize("where", ["user", "assistant", "output"])
def test_parts_of_every_kind(part, expected, where):
    if where == "user":
        assert messages(user([part, part])) == [("user", expected, expected)]
    elif where == "assistant":
        said = messages(HELLO, assistant([part]), HELLO)
        assert said[1] == ("assistant", expected)
    else:
        said = messages(HELLO, call(), output(said=[part]))
        assert said[2] == ("user", result("a", expected))


@pytest.mark.parametrize(
    ("part", "place"),
    [
        ({"type": "input_image", "file_id": "file_1"}, ".image_url"),
        ({"type": "input_image", "image_url": "x"}, ".image_url"),
        ({"type": "input_image", "image_url": {"url": PNG}}, ".image_url"),
        ({"type": "input_image", "image_url": PDF}, ".image_url"),
        ({"type": "input_file", "file_id": "file_1"}, ".file_data"),
        ({"type": "input_file", "file_data": PNG}, ".file_data"),
        ({"type": "input_file", "file_url": "x"}, ".file_url"),
        ({"type": "input_audio", "input_audio": {}}, ""),
        ({"type": "input_video"}, ".type"),
        ({"type": "input_text"}, ".text"),
        ({"type": "input_text", "text": None}, ".text"),
        ({"type": "refusal"}, ".refusal"),
        ({"text": "a"}, ".type"),
        ("a", ""),
    ],
)
def test_a_part_that_cannot_be_taken_is_refused_at_its_place(part, place):
    fine = {"type": "input_text", "text": "a"}
    assert refused(HELLO, user([fine, part])).param == f"input[1].content[1]{place}"
    error = refused(HELLO, call(), output(said=[fine, part]))
    assert error.param == f"input[2].output[1]{place}"


@pytest.mark.parametrize(
    ("item", "param"),
    [
        (7, "input[0]"),
        ("hi", "input[0]"),
        ([], "input[0]"),
        (None, "input[0]"),
        ({}, "input[0].role"),
        ({"role": "user"}, "input[0].content"),
        ({"content": "x"}, "input[0].role"),
        ({"role": "tool", "content": "x"}, "input[0].role"),
        (user(7), "input[0].content"),
        ({"type": "item_reference"}, "input[0].id"),
        ({"type": "item_reference", "id": 7}, "input[0].id"),
        (call(None), "input[0].call_id"),
        (call(arguments={}), "input[0].arguments"),
        ({"type": "function_call", "call_id": "a"}, "input[0].name"),
        (custom(text=None), "input[0].input"),
        ({"type": "custom_tool_call", "call_id": "a", "name": "b"}, "input[0].input"),
        (output(said=None), "input[0].output"),
        ({"type": "function_call_output", "output": ""}, "input[0].call_id"),
        ({"type": "reasoning", "id": 7}, "input[0].id"),
        ({"type": "reasoning", "encrypted_content": 7}, "input[0].encrypted_content"),
    ],
)
def test_a_broken_item_is_refused_at_its_place(item, param):
    error = refused(item)
    assert (error.status, error.param) == (400, param)


@pytest.mark.parametrize("kind", ["compaction", "computer_call", "wizard", "x" * 99, 7, True, [0]])
def test_items_of_other_kinds_are_refused(kind):
    error = refused(HELLO, {"type": kind, "role": "user", "content": "x"})
    assert (error.status, error.param, error.code) == (400, "input[1].type", "unsupported_value")
    assert len(error.message) < 200


@pytest.mark.parametrize("kind", sorted(TRACES))
def test_traces_of_hosted_tools_are_passed_over_and_named_once(kind):
    trace = {"type": kind, "id": "x_1", "status": "completed", "action": {}}
    wanted = resolved([HELLO, trace, trace])
    assert [given.at for given in wanted.given.items] == ["input[0]"]
    body = b'{"input": []}'
    assert wire.ignored(wanted, body, sampling=False) == [f"input.{kind}"]


# Instructions and system messages


@pytest.mark.parametrize("role", ["system", "developer"])
def test_the_system_messages_at_the_beginning_follow_the_instructions(role):
    said = conversation(
        [
            {"role": role, "content": "One."},
            {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "T"}]},
            {"role": role, "content": " \n"},
            HELLO,
        ],
        instructions="First.",
    )
    assert said.system == "First.\n\nOne.\n\nT"
    assert said.messages == (Message("user", (Text("hello"),)),)


@pytest.mark.parametrize("instructions", [None, "", "  "])
def test_no_instructions(instructions):
    assert conversation([HELLO], instructions=instructions).system == ""


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_later_system_message_stays_in_its_place_as_the_users(role):
    late = {"role": role, "content": "Be brief."}
    assert messages(HELLO, late, assistant("ok"), late) == [
        ("user", Text("hello"), Text("Be brief.")),
        ("assistant", Text("ok")),
        ("user", Text("Be brief.")),
    ]


def test_parts_of_a_system_message_are_one_text():
    parts = [{"type": "input_text", "text": "a"}, {"type": "text", "text": "b"}]
    assert conversation([{"role": "system", "content": parts}, HELLO]).system == "ab"


def test_a_system_message_holds_no_picture():
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": PNG}]
    error = refused({"role": "system", "content": parts}, HELLO)
    assert error.param == "input[0].content[1]"


# What was said before


PREVIOUS = {
    "resp_1": [
        json.dumps(item).encode()
        for item in ({"role": "system", "content": "Old."}, HELLO, assistant("Hi."))
    ]
}


def test_a_conversation_goes_on_but_its_instructions_do_not():
    said = conversation(
        [{"role": "developer", "content": "Mind."}, user("more")],
        context=PREVIOUS,
        previous_response_id="resp_1",
        instructions="New.",
    )
    assert said.system == "New.\n\nOld."
    assert [(m.role, *m.parts) for m in said.messages] == [
        ("user", Text("hello")),
        ("assistant", Text("Hi.")),
        ("user", Text("Mind."), Text("more")),
    ]


def test_an_unknown_response_cannot_go_on():
    error = refused(HELLO, previous_response_id="resp_2", context=PREVIOUS)
    assert isinstance(error, NotFound)
    assert error.message == "Previous response with id 'resp_2' not found."
    assert (error.param, error.code) == ("previous_response_id", "previous_response_not_found")


def test_calls_of_the_past_are_answered_now():
    past = {"resp_1": [json.dumps(item).encode() for item in (HELLO, call())]}
    said = messages(output(), context=past, previous_response_id="resp_1")
    assert said == [("user", Text("hello")), ("assistant", CALL), ("user", result())]
    error = refused(HELLO, context=past, previous_response_id="resp_1")
    assert error.message == "No tool output found for function call a."


# The end


TRAILING = [assistant("So far"), SEALED, assistant([{"type": "output_text", "text": "and"}])]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_the_model_said_last_is_left_out_and_named(count):
    """It does not go on with an answer of its own; Codex sends such after a failure."""
    wanted = resolved([HELLO, *TRAILING[:count]])
    said = wire.to_conversation(wanted, "m", sampling=False).messages
    assert said == (Message("user", (Text("hello"),)),)
    assert [given.at for given in wanted.given.items] == ["input[0]"]
    places = [f"input[{place}]" for place in range(1, count + 1)]
    assert wire.ignored(wanted, b"{}", sampling=False) == places


def test_what_the_model_said_is_not_left_out_when_something_follows():
    assert len(resolved([HELLO, *TRAILING, HELLO]).given.items) == 5
    assert len(resolved([HELLO, call(), SEALED, output()]).given.items) == 4


# Calls


def test_a_call_and_its_output():
    said = messages(HELLO, call(arguments=' {"b": 1,"a":2} '), output())
    assert said == [
        ("user", Text("hello")),
        ("assistant", ToolCall("a", "f", '{"b": 1,"a":2}')),
        ("user", result()),
    ]


@pytest.mark.parametrize("arguments", ["", "  ", "{}"])
def test_blank_arguments_are_none(arguments):
    assert messages(HELLO, call(arguments=arguments), output())[1] == ("assistant", CALL)


def test_absent_arguments_are_none():
    bare = {"type": "function_call", "call_id": "a", "name": "f"}
    assert messages(HELLO, bare, output())[1] == ("assistant", CALL)


@pytest.mark.parametrize(
    "arguments", ["[]", "7", '{"a":', "{} x", "{'a': 1}", '{"a":' * 101 + "1" + "}" * 101]
)
def test_unusable_arguments_are_refused(arguments):
    error = refused(HELLO, call(arguments=arguments), output())
    assert (error.status, error.param) == (400, "input[1].arguments")


def test_a_custom_tools_call_is_one_of_a_function():
    said = messages(HELLO, custom(text='a "b"\n'), output(kind="custom_tool_call_output"))
    assert said[1] == ("assistant", ToolCall("a", "shell", to_arguments('a "b"\n')))
    assert said[2] == ("user", result())


@pytest.mark.parametrize("made", [call(namespace="n"), call(name="n__f")])
def test_a_call_into_a_namespace_has_the_name_that_the_model_knows(made):
    assert messages(HELLO, made, output())[1] == ("assistant", ToolCall("a", "n__f", "{}"))


def test_a_call_of_a_tool_that_is_not_offered_any_more():
    said = messages(HELLO, custom(name="x", namespace="gone"), output(), tools=None)
    assert said[1] == ("assistant", ToolCall("a", "gone__x", to_arguments("ls")))


def test_parallel_calls_are_answered_in_any_order():
    said = messages(HELLO, call("a"), custom("b"), call("c"), output("c"), output("a"), output("b"))
    made = (ToolCall("a", "f", "{}"), ToolCall("b", "shell", to_arguments("ls")))
    assert said == [
        ("user", Text("hello")),
        ("assistant", *made, ToolCall("c", "f", "{}")),
        ("user", result("c"), result("a"), result("b")),
    ]


def test_calls_one_after_the_other_are_turns_of_their_own():
    said = messages(HELLO, call("a"), output("a"), call("b"), output("b"))
    assert [(role, len(parts)) for role, *parts in said] == [
        *(("user", 1), ("assistant", 1), ("user", 1), ("assistant", 1), ("user", 1))
    ]


@pytest.mark.parametrize("late", ["user", "system", "developer"])
def test_an_output_stands_before_what_the_client_put_in_between(late):
    said = messages(HELLO, call(), {"role": late, "content": "hm"}, output(), user("so?"))
    assert said == [
        ("user", Text("hello")),
        ("assistant", CALL),
        ("user", result(), Text("hm"), Text("so?")),
    ]


def test_what_the_model_says_behind_its_call_is_of_the_same_turn():
    said = messages(HELLO, call(), assistant("wait"), output())
    assert said == [
        ("user", Text("hello")),
        ("assistant", CALL, Text("wait")),
        ("user", result()),
    ]


def test_an_output_that_comes_much_later_stands_behind_its_call():
    said = messages(
        *(HELLO, call("a"), user("more"), assistant("ok"), call("b")),
        *(output("b"), user("and?"), output("a")),
    )
    assert said == [
        ("user", Text("hello")),
        ("assistant", ToolCall("a", "f", "{}")),
        ("user", result("a"), Text("more")),
        ("assistant", Text("ok"), ToolCall("b", "f", "{}")),
        ("user", result("b"), Text("and?")),
    ]


def test_interleaved_calls_and_outputs():
    said = messages(HELLO, call("a"), call("b"), output("b"), assistant("hm"), output("a"))
    assert said == [
        ("user", Text("hello")),
        ("assistant", ToolCall("a", "f", "{}"), ToolCall("b", "f", "{}")),
        ("user", result("b"), result("a")),
        ("assistant", Text("hm")),
    ]


def test_an_id_may_come_again_when_its_call_is_answered():
    said = messages(HELLO, call(), output(), call(), output(said="two"))
    assert said[2:] == [
        ("user", result()),
        ("assistant", CALL),
        ("user", result("a", Text("two"))),
    ]


def test_an_id_that_lost_its_punctuation_is_found():
    said = messages(HELLO, call("call_1-a"), output("call1a"))
    assert said[2] == ("user", result("call_1-a"))


@pytest.mark.parametrize(
    ("items", "message", "param"),
    [
        (
            [output("x")],
            "No tool call found for function call output with call_id x.",
            "input[1].call_id",
        ),
        (
            [call(), output("b")],
            "No tool call found for function call output with call_id b.",
            "input[2].call_id",
        ),
        (
            [call(), output(), output()],
            "No tool call found for function call output with call_id a.",
            "input[3].call_id",
        ),
        (
            [output(), call()],
            "No tool call found for function call output with call_id a.",
            "input[1].call_id",
        ),
        (
            [call("1a"), call("1-a"), output("1_a"), output("1a")],
            "No tool call found for function call output with call_id 1_a.",
            "input[3].call_id",
        ),
        ([call()], "No tool output found for function call a.", "input[1]"),
        ([custom(), user("x")], "No tool output found for function call a.", "input[1]"),
        (
            [call("b"), call(), output("b")],
            "No tool output found for function call a.",
            "input[2]",
        ),
        ([call(), call()], "The id 'a' stands for two calls", "input[2].call_id"),
    ],
)
def test_calls_and_outputs_that_do_not_fit_are_refused_in_openais_words(items, message, param):
    error = refused(HELLO, *items)
    assert isinstance(error, InvalidRequest)
    assert (error.message, error.param) == (message, param)


def test_a_long_id_is_not_repeated_whole():
    assert len(refused(HELLO, output("x" * 100_000)).message) < 300
    assert len(refused(HELLO, call("x" * 100_000)).message) < 300


# Reasoning


@pytest.mark.parametrize("reasoning", [THOUGHT, REDACTED])
def test_reasoning_of_ours_comes_back(reasoning):
    item = {**SEALED, "encrypted_content": seal(reasoning)}
    said = messages(HELLO, item, assistant("Hi."), HELLO)
    assert said[1] == ("assistant", reasoning, Text("Hi."))


FOREIGN = "gAAAAABo" + base64.urlsafe_b64encode(bytes(range(200))).decode()
WHOLE = base64.b64decode(seal(THOUGHT))


@pytest.mark.parametrize(
    "sealed",
    [
        FOREIGN,
        "",
        None,
        "é",
        "=",
        "a",
        base64.b64encode(b"x").decode(),
        base64.b64encode(WHOLE.replace(b"see", b"saw")).decode(),
        base64.b64encode(WHOLE[:-1]).decode(),
        base64.b64encode(WHOLE[1:]).decode(),
        seal(THOUGHT)[:-4],
        seal(THOUGHT) + "AAAA",
        # Of another version of this program: whole, but not of the form that is known
        *(base64.b64encode(digest(c) + c).decode() for c in (b"{}", b"7", b"", b"\xff", b"{")),
    ],
)
def test_reasoning_that_is_not_ours_and_whole_is_let_go(sealed):
    assert unseal(sealed or "") is None
    item = {**SEALED, "encrypted_content": sealed}
    said = messages(HELLO, item, assistant("Hi."), HELLO)
    assert said[1] == ("assistant", Text("Hi."))


def test_reasoning_that_says_nothing_at_all_is_let_go():
    said = messages(HELLO, {"type": "reasoning"}, assistant("Hi."), HELLO)
    assert said[1] == ("assistant", Text("Hi."))


@unhurried
@given(st.builds(Reasoning, st.text(), st.text(), st.text(), st.booleans()), st.data())
def test_a_seal_holds_and_shows_every_change(reasoning, data):
    sealed = seal(reasoning)
    assert unseal(sealed) == reasoning
    sealed.encode("ascii")
    place = data.draw(st.integers(0, len(sealed) - 1))
    other = data.draw(st.characters())
    changed = sealed[:place] + other + sealed[place + 1 :]
    assert unseal(changed) in (None, reasoning)


@unhurried
@given(st.text() | st.binary().map(lambda raw: base64.b64encode(raw).decode()))
def test_no_text_breaks_the_seal(sealed):
    assert unseal(sealed) is None


def test_reasoning_without_its_seal_is_found_by_its_id():
    kept = {"rs_1": json.dumps(SEALED).encode()}
    bare = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": None}
    wanted = resolved([HELLO, bare, assistant("Hi."), HELLO], kept=kept)
    assert wanted.given.items[1].raw == kept["rs_1"]  # and kept with it for the next turn
    said = wire.to_conversation(wanted, "m", sampling=False).messages[1].parts
    assert said == (THOUGHT, Text("Hi."))


def test_reasoning_is_found_by_the_id_of_reasoning_only():
    kept = {"fc_1": json.dumps({"id": "fc_1", **call()}).encode()}
    item = {"type": "reasoning", "id": "fc_1", "summary": []}
    wanted = resolved([HELLO, item, assistant("Hi."), HELLO], kept=kept)
    again = read_history([given.raw for given in wanted.given.items])
    assert [given.item for given in again] == [given.item for given in wanted.given.items]


# References


KEPT = {
    item["id"]: json.dumps(item).encode()
    for item in (
        SEALED,
        {"type": "message", "id": "msg_1", **assistant([{"type": "output_text", "text": "Hi."}])},
        {"id": "fc_1", **call()},
    )
}


@pytest.mark.parametrize("kind", [{"type": "item_reference"}, {"type": None}, {}])
def test_references_are_what_they_refer_to(kind):
    references = [{**kind, "id": id_} for id_ in KEPT]
    wanted = resolved([HELLO, *references, output()], kept=KEPT)
    assert [given.raw for given in wanted.given.items[1:-1]] == list(KEPT.values())
    said = wire.to_conversation(wanted, "m", sampling=False).messages
    assert said[1].parts == (THOUGHT, Text("Hi."), CALL)


@pytest.mark.parametrize("id_", ["msg_2", "fc_", "", "x" * 1_000])
def test_an_unknown_item_is_not_found(id_):
    error = refused(HELLO, {"type": "item_reference", "id": id_}, kept=KEPT)
    assert isinstance(error, NotFound)
    assert error.message == f"Item with id '{id_[:100]}' not found."
    assert error.param == "input[1].id"


def test_reasoning_that_is_forgotten_is_done_without():
    reference = {"type": "item_reference", "id": "rs_2"}
    assert messages(HELLO, reference, assistant("Hi."), HELLO)[1] == ("assistant", Text("Hi."))


# There and back: any conversation, written as items

texts = st.text(max_size=6)
images = st.sampled_from([Image("image/png", PIXEL), Image(url=WEB)])
documents = st.sampled_from([Document(PIXEL, "a.pdf"), Document("", None, WEB), Document(PIXEL)])
shown = st.lists(texts.map(Text) | images | documents, max_size=3).map(tuple)
thoughts = st.builds(Reasoning, texts, texts, texts, st.booleans())
objects = st.dictionaries(texts, st.integers() | texts, max_size=2).map(json.dumps)
functions = st.sampled_from(["f", "n__f", "gone"])
customs = st.sampled_from(["shell", "n__patch", "gone__too"])
made = st.tuples(functions, objects) | st.tuples(customs, texts.map(to_arguments))


@st.composite
def conversations(draw) -> list[Message]:
    """In the form in which they come back: by turns, results first."""
    turns = [Message("user", (Text(draw(texts)), *draw(shown)))]
    for turn in range(draw(st.integers(0, 3))):
        said = draw(st.lists(thoughts | texts.map(Text) | made, min_size=1, max_size=4))
        parts = [
            ToolCall(f"call{turn}.{index}", *part) if isinstance(part, tuple) else part
            for index, part in enumerate(said)
        ]
        ids = [part.id for part in parts if isinstance(part, ToolCall)]
        results = [ToolResult(id_, draw(shown)) for id_ in draw(st.permutations(ids))]
        more = draw(shown) if results else (Text(draw(texts)), *draw(shown))
        turns += [Message("assistant", tuple(parts)), Message("user", (*results, *more))]
    return turns


def to_part(part, *, output: bool = False) -> dict:
    match part:
        case Text(text=text):
            return {"type": "output_text" if output else "input_text", "text": text}
        case Image(url=url):
            return {"type": "input_image", "detail": "auto", "image_url": url or PNG}
        case Document(title=title, url=url):
            place = {"file_url": url} if url else {"file_data": PDF}
            return {"type": "input_file", "filename": title, **place}
    raise AssertionError(part)


def split_name(name: str) -> dict:
    namespace, _, bare = name.rpartition("__")
    return {"name": bare, **({"namespace": namespace} if namespace else {})}


def to_call(made: ToolCall) -> dict:
    name = split_name(made.name)
    if name["name"] in ("shell", "patch", "too"):
        return custom(made.id, text=json.loads(made.arguments)["input"], **name)
    return call(made.id, arguments=made.arguments, **name)


def to_item(role: str, part, *, easy: bool) -> dict:
    match part:
        case ToolCall():
            return to_call(part)
        case ToolResult(call_id=id_, parts=(Text(text=text),)) if easy:
            return output(id_, text)
        case ToolResult(call_id=id_, parts=parts):
            return output(id_, [to_part(inner) for inner in parts])
        case Reasoning():
            return {"type": "reasoning", "summary": [], "encrypted_content": seal(part)}
        case Text(text=text) if easy:
            return {"role": role, "content": text}
        case _:
            content = [to_part(part, output=role == "assistant")]
            return {"type": "message", "role": role, "content": content}


@unhurried
@given(conversations(), st.data())
def test_any_conversation_comes_through(turns, data):
    items = [
        to_item(turn.role, part, easy=data.draw(st.booleans()))
        for turn in turns
        for part in turn.parts
    ]
    wanted = resolved(items)
    assert wire.to_conversation(wanted, "m", sampling=False).messages == tuple(turns)
    again = read_history([given.raw for given in wanted.given.items])
    assert [given.item for given in again] == [given.item for given in wanted.given.items]


@unhurried
@given(conversations(), st.data())
def test_any_conversation_goes_on_from_any_point(turns, data):
    """What was kept of it is the beginning, whatever the cut."""
    items = [to_item(turn.role, part, easy=True) for turn in turns for part in turn.parts]
    cut = data.draw(st.integers(0, len(turns[-1].parts) - 1)) + 1
    past, now = items[:-cut], items[-cut:]
    context = {"resp_1": [json.dumps(item).encode() for item in past]}
    said = conversation(now, context=context, previous_response_id="resp_1").messages
    assert said == tuple(turns)
