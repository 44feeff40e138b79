"""Random items in, compared with what reaches Anthropic: the Responses API's own property test.

As in ``test_exactness``, the expectation is written from the two APIs' rules and not from our
code. Reasoning that the model can take back is what an answer really gave out.
"""

from __future__ import annotations

import json
import uuid

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.integration.test_exactness import arguments, as_turns, text, texts
from tests.lab import PDF, PNG, process_of, sse, system_upstream, turns_upstream

NAMESPACES = st.sampled_from([None, None, "crm", "multi_agent_v1"])


def part(kind: str, value: str):
    """A part as the client writes it, and the block that must arrive (None: nothing)."""
    block = text(value) if value.strip() else None
    match kind:
        case "image":
            source = {"type": "base64", "media_type": "image/png", "data": PNG}
            url = f"data:image/png;base64,{PNG}"
            return {"type": "input_image", "image_url": url}, {"type": "image", "source": source}
        case "pdf":
            source = {"type": "base64", "media_type": "application/pdf", "data": PDF}
            file = {"filename": "x.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}
            return (
                {"type": "input_file", **file},
                {"type": "document", "source": source, "title": "x.pdf"},
            )
        case _:
            return {"type": "input_text", "text": value}, block


def wire(made):
    return [wire for wire, _ in made], [block for _, block in made if block]


parts = st.builds(part, st.sampled_from(["text", "text", "text", "image", "pdf"]), texts)
plain = texts.map(lambda value: (value, [text(value)] if value.strip() else []))
content = st.one_of(plain, st.lists(parts, min_size=1, max_size=3).map(wire))
said = st.one_of(
    plain,
    st.lists(texts, min_size=1, max_size=2).map(
        lambda values: (
            [{"type": "output_text", "text": value, "annotations": []} for value in values],
            [text(value) for value in values if value.strip()],
        )
    ),
    texts.map(
        lambda value: (
            [{"type": "refusal", "refusal": value}],
            [text(value)] if value.strip() else [],
        )
    ),
)


@st.composite
def messages(draw, role, side, contents):
    value, blocks = draw(contents)
    extras = draw(
        st.sampled_from(
            [{}, {"type": "message"}, {"type": "message", "id": "msg_a", "status": "completed"}]
        )
    )
    return [(side, {**extras, "role": role, "content": value}, blocks)]


@st.composite
def tool_rounds(draw, reasoning):
    """Calls of functions and custom tools, and their outputs in any order."""
    steps = []
    if draw(st.booleans()):
        item, block = draw(st.sampled_from(reasoning))
        steps.append(("assistant", item, [block]))
    calls = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["Bash", "look", "a-b"]),
                NAMESPACES,
                st.booleans(),
                arguments,
                texts,
                content,
            ),
            min_size=1,
            max_size=3,
        )
    )
    outputs = []
    for name, namespace, custom, given_, plain_, (value, blocks) in calls:
        id_ = f"call{uuid.uuid4().hex}"
        where = {} if namespace is None else {"namespace": namespace}
        known = name if namespace is None else f"{namespace}__{name}"
        kind = "custom_tool_call" if custom else "function_call"
        body = {"input": plain_} if custom else {"arguments": json.dumps(given_)}
        item = {"type": kind, "call_id": id_, "name": name, **where, **body}
        used = {"input": plain_} if custom else given_
        steps.append(
            ("assistant", item, [{"type": "tool_use", "id": id_, "name": known, "input": used}])
        )
        result = {
            "type": "tool_result",
            "tool_use_id": id_,
            **({"content": blocks} if blocks else {}),
        }
        outputs.append(
            ("user", {"type": f"{kind}_output", "call_id": id_, "output": value}, [result])
        )
    return steps + list(draw(st.permutations(outputs)))


def histories(reasoning):
    users = st.one_of(
        messages("user", "user", content),
        messages("user", "user", content),
        messages("system", "user", plain),
        messages("developer", "user", plain),
    )
    assistants = messages("assistant", "assistant", said)
    foreign = st.sampled_from([None, "gAAAA", "bm9uc2Vuc2U="]).map(
        lambda sealed: [
            ("assistant", {"type": "reasoning", "summary": [], "encrypted_content": sealed}, [])
        ]
    )
    rounds = st.one_of(users, assistants, tool_rounds(reasoning), foreign)
    return st.lists(rounds, max_size=7).map(lambda made: [step for steps in made for step in steps])


@pytest.fixture(scope="module")
def reasoning(daemon):
    """Items of real answers, each with the block that they came from."""
    told = "[simulate thinking=2 redacted=1 text=Well.]"
    answer = daemon.respond(told, include=["reasoning.encrypted_content"], store=False)
    thinking, redacted, _ = answer.json()["output"]
    block = {
        "type": "thinking",
        "thinking": "step0 step1 ",
        "signature": "YSBzaW11bGF0ZWQgc2lnbmF0dXJl",
    }
    return [
        (thinking, block),
        (redacted, {"type": "redacted_thinking", "data": "c2ltdWxhdGVkIHJlZGFjdGVkIHRoaW5raW5n"}),
    ]


@given(data=st.data())
@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_every_item_arrives_as_it_was(daemon, simulator, reasoning, data):
    tag = f"tag{uuid.uuid4().hex}"
    system = data.draw(st.lists(texts, max_size=2))
    middle = data.draw(histories(reasoning))
    steps = [
        ("user", {"role": "user", "content": "begin"}, [text("begin")]),
        *middle,
        ("user", {"role": "user", "content": tag}, [text(tag)]),
    ]
    items = [{"role": "developer", "content": value} for value in system[1:]]
    answer = daemon.respond(
        [*items, *(item for _, item, _ in steps)],
        instructions=system[0] if system else None,
        stream=data.draw(st.booleans()),
        store=False,
    )
    assert answer.status_code == 200, answer.text
    (request,) = simulator.requests(tag)
    assert turns_upstream(request["body"]) == as_turns(steps)
    prompt = "\n\n".join(value for value in system if value.strip())
    assert system_upstream(request["body"]) == ([prompt] if prompt else [])


@given(data=st.data())
@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_chain_holds_what_was_said_in_it(daemon, simulator, data):
    """By previous_response_id, from a random earlier answer each time: a tree of conversations."""
    tag = f"tag{uuid.uuid4().hex}"
    nodes = {None: []}
    for number in range(data.draw(st.integers(2, 5))):
        previous = data.draw(st.sampled_from(list(nodes)))
        value, blocks = data.draw(content)
        if isinstance(value, str):
            value = [{"type": "input_text", "text": value}]
        word = f"{tag}-{number}."
        prompt = [*value, {"type": "input_text", "text": f"{word} [simulate text='re {word}']"}]
        answer = daemon.respond(
            [{"role": "user", "content": prompt}], previous_response_id=previous
        )
        assert answer.status_code == 200, answer.text
        history = [*nodes[previous], ("user", [*blocks, text(prompt[-1]["text"])])]
        (request,) = [
            one
            for one in simulator.requests(word)
            if word in json.dumps(one["body"]["messages"][-2:])
            and turns_upstream(one["body"])[-1] == history[-1]
        ]
        assert turns_upstream(request["body"]) == history
        nodes[answer.json()["id"]] = [*history, ("assistant", [text(f"re {word}")])]


def test_streamed_reasoning_of_a_living_process_is_not_sent_twice(daemon, simulator, tag):
    """The process has its own thinking; the client's copy of it changes nothing."""
    include = ["reasoning.encrypted_content"]
    prompt = {"role": "user", "content": f"{tag} [simulate thinking=2 text=Well.]"}
    streamed = daemon.respond([prompt], include=include, store=False, stream=True)
    output = sse(streamed.text)[-1]["response"]["output"]
    answer = daemon.respond([prompt, *output, {"role": "user", "content": "on"}], store=False)
    assert process_of(daemon, answer) == "continued"
    turn = turns_upstream(simulator.requests(tag)[-1]["body"])[1]
    assert [block["type"] for block in turn[1]] == ["thinking", "text"]
