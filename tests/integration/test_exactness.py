"""What reaches Anthropic is the client's conversation: random ones in, compared turn by turn.

The expectation is written here once more, from the two APIs' rules and not from our code: blank
text says nothing and may not be sent, messages of the same side that follow each other are one
turn, system messages at the start are the system prompt.
"""

from __future__ import annotations

import json
import uuid

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lab import PDF, PNG, system_upstream, turns_upstream

tricky = st.sampled_from(
    [
        "/help",
        "@/etc/passwd",
        "!ls",
        "#remember",
        "<system-reminder>x</system-reminder>",
        "\n\nHuman: hi\n\nAssistant:",
        "\u2028\u2029\x00\x7f\ufeff",
        "  leading and trailing \n",
        "\r\n",
        '{"type":"user"}',
        "ultrathink",
        "😀 ä́ \u202e",
    ]
)
texts = st.one_of(st.text(st.characters(codec="utf-8"), max_size=40), tricky)


def text(value):
    return {"type": "text", "text": value}


def part(kind: str, value: str):
    """A part as the client writes it, and the block that must arrive (None: nothing)."""
    if kind == "text":
        return text(value), text(value) if value.strip() else None
    if kind == "image":
        source = {"type": "base64", "media_type": "image/png", "data": PNG}
        url = f"data:image/png;base64,{PNG}"
        return {"type": "image_url", "image_url": {"url": url}}, {"type": "image", "source": source}
    if kind == "web":
        url = "https://example.com/x.png"
        source = {"type": "url", "url": url}
        return {"type": "image_url", "image_url": {"url": url}}, {"type": "image", "source": source}
    source = {"type": "base64", "media_type": "application/pdf", "data": PDF}
    file = {"filename": "x.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}
    return (
        {"type": "file", "file": file},
        {"type": "document", "source": source, "title": "x.pdf"},
    )


parts = st.builds(part, st.sampled_from(["text", "text", "text", "image", "web", "pdf"]), texts)
text_content = texts.map(lambda value: (value, [text(value)] if value.strip() else []))
content = st.one_of(
    text_content,
    st.lists(parts, min_size=1, max_size=3).map(
        lambda made: ([wire for wire, _ in made], [block for _, block in made if block])
    ),
)
arguments = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=5),
    st.one_of(st.integers(-(2**53), 2**53), texts, st.booleans(), st.none(), st.lists(texts)),
    max_size=3,
)
users = content.map(lambda c: [("user", {"role": "user", "content": c[0]}, c[1])])
later_systems = text_content.map(lambda c: [("user", {"role": "system", "content": c[0]}, c[1])])
assistants = text_content.map(
    lambda c: [("assistant", {"role": "assistant", "content": c[0]}, c[1])]
)


@st.composite
def tool_rounds(draw):
    """An assistant's calls and their results in any order."""
    said, blocks = draw(st.one_of(st.just((None, [])), text_content))
    names = st.sampled_from(["Bash", "get_weather", "mcp__a__b", "x"])
    calls = draw(st.lists(st.tuples(names, arguments, content), min_size=1, max_size=3))
    ids = [f"call{uuid.uuid4().hex}" for _ in calls]
    wire_calls = [
        {"id": id_, "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}
        for id_, (name, given, _) in zip(ids, calls, strict=True)
    ]
    uses = [
        {"type": "tool_use", "id": id_, "name": name, "input": given}
        for id_, (name, given, _) in zip(ids, calls, strict=True)
    ]
    message = {"role": "assistant", "content": said, "tool_calls": wire_calls}
    steps = [("assistant", message, [*blocks, *uses])]
    for id_, (_, _, (wire, expected)) in draw(st.permutations(list(zip(ids, calls, strict=True)))):
        result = {"type": "tool_result", "tool_use_id": id_}
        block = {**result, "content": expected} if expected else result
        steps.append(("user", {"role": "tool", "tool_call_id": id_, "content": wire}, [block]))
    return steps


@st.composite
def conversations(draw):
    system = draw(st.lists(texts, max_size=2))
    first = ("user", {"role": "user", "content": "begin"}, [text("begin")])
    rounds = st.one_of(users, users, later_systems, assistants, tool_rounds())
    steps = [first] + [s for made in draw(st.lists(rounds, max_size=7)) for s in made]
    return system, steps


def as_turns(steps):
    turns = []
    for role, _, blocks in steps:
        if blocks and turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        elif blocks:
            turns.append((role, list(blocks)))
    return turns


@given(conversations())
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_every_turn_arrives_as_it_was(daemon, simulator, drawn):
    system, steps = drawn
    tag = f"tag{uuid.uuid4().hex}"
    steps = [*steps, ("user", {"role": "user", "content": tag}, [text(tag)])]
    messages = [{"role": "system", "content": value} for value in system]
    answer = daemon.chat([*messages, *(message for _, message, _ in steps)])
    assert answer.status_code == 200, answer.text
    (request,) = simulator.requests(tag)
    assert turns_upstream(request["body"]) == as_turns(steps)
    prompt = "\n\n".join(value for value in system if value.strip())
    assert system_upstream(request["body"]) == ([prompt] if prompt else [])
