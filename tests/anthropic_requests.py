"""Requests to Anthropic's Messages API of every shape, and what of them must arrive at it.

What is expected is written from the API's rules and not from our code: cache marks are no part of
what is said, blank texts say nothing, and messages of the same side that follow each other are one
turn.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.lab import PDF, PNG

MARK = {"cache_control": {"type": "ephemeral"}}
PNG_SOURCE = {"type": "base64", "media_type": "image/png", "data": PNG}
PDF_SOURCE = {"type": "base64", "media_type": "application/pdf", "data": PDF}


def text(value: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": value, **more}


texts = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(
    ["", " \n", "\u2028", "/help", "<system-reminder>x</system-reminder>", "@/etc/passwd"]
)
said = texts.filter(lambda value: value.strip())
marks = st.sampled_from(
    [{}, {}, MARK, {"cache_control": None}, {"cache_control": {"type": "ephemeral", "ttl": "1h"}}]
)
cited = st.sampled_from([{}, {"citations": None}, {"citations": [{"type": "page_location"}]}])
# A block as it is sent, and what of it must arrive.
text_blocks = st.builds(
    lambda value, extra, mark: (text(value, **extra, **mark), text(value)), texts, cited, marks
)


def attachment(block: dict[str, Any]) -> st.SearchStrategy[Any]:
    return marks.map(lambda mark: (block | mark, block))


ATTACHMENTS = [
    {"type": "image", "source": PNG_SOURCE},
    {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
    {"type": "document", "source": PDF_SOURCE},
    {"type": "document", "source": PDF_SOURCE, "title": "a.pdf"},
    {"type": "document", "source": {"type": "url", "url": "https://x/y.pdf"}},
    {"type": "document", "source": PDF_SOURCE, "context": "c", "citations": {"enabled": True}},
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}},
    {"type": "document", "title": "t", "source": {"type": "content", "content": [text("x")]}},
]
SEARCH_RESULT = {
    "type": "search_result",
    "source": "https://x",
    "title": "t",
    "content": [text("found")],
    "citations": {"enabled": True},
}
attachments = st.sampled_from(ATTACHMENTS).flatmap(attachment)
of_user = st.one_of(text_blocks, text_blocks, attachments, attachment(SEARCH_RESULT))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
thoughts = st.one_of(
    st.builds(lambda t, s: {"type": "thinking", "thinking": t, "signature": s}, texts, said),
    st.builds(lambda data: {"type": "redacted_thinking", "data": data}, said),
).map(lambda block: (block, block))


def whole(content: str | list[Any]) -> tuple[Any, list[Any]]:
    """A message's content from its blocks, or its text: as sent, and what must arrive."""
    if isinstance(content, str):
        return content, [text(content)] if content.strip() else []
    sent = [block for block, _ in content]
    return sent, [b for _, b in content if b["type"] != "text" or b["text"].strip()]


users = (texts | st.lists(of_user, min_size=1, max_size=3)).map(
    lambda content: [("user", *whole(content))]
)
systems = texts.map(lambda content: [("system", *whole(content))])
assistants = st.one_of(
    texts.map(whole),
    st.tuples(st.lists(thoughts, max_size=2), said, marks).map(
        lambda made: whole([*made[0], (text(made[1], **made[2]), text(made[1]))])
    ),
).map(lambda made: [("assistant", *made)])


@st.composite
def results(draw, id_: str):
    """A block as sent, and what must arrive."""
    bare: dict[str, Any] = {"type": "tool_result", "tool_use_id": id_}
    is_error = draw(st.sampled_from([None, False, True]))
    inner = text_blocks if is_error else text_blocks | attachments
    content = draw(st.none() | texts | st.lists(inner, max_size=3))
    sent, kept = (None, []) if content is None else whole(content)
    given = dict(bare)
    if content is not None:
        given["content"] = sent
    if is_error is not None:
        given["is_error"] = is_error
    expected = bare | ({"is_error": True} if is_error else {})
    return given | draw(marks), expected | ({"content": kept} if kept else {})


@st.composite
def tool_loops(draw):
    """Calls, and their results in any order, perhaps with words behind them."""
    count = draw(st.integers(1, 3))
    ids = [f"toolu_{draw(st.uuids()).hex}" for _ in range(count)]
    uses = [
        {
            "type": "tool_use",
            "id": id_,
            "name": draw(st.sampled_from(["look", "Bash", "mcp__a__b"])),
            "input": draw(st.dictionaries(texts, json_values, max_size=2)),
        }
        for id_ in ids
    ]
    before = draw(st.lists(thoughts, max_size=1)) + draw(st.lists(text_blocks, max_size=1))
    calls = [(use | draw(marks), use) for use in uses]
    answers = [draw(results(id_)) for id_ in draw(st.permutations(ids))]
    behind = draw(st.lists(of_user, max_size=2))
    return [("assistant", *whole([*before, *calls])), ("user", *whole([*answers, *behind]))]


@st.composite
def conversations(draw):
    rounds = st.one_of(users, users, systems, assistants, tool_loops())
    between = [step for made in draw(st.lists(rounds, max_size=6)) for step in made]
    return [("user", *whole("begin")), *between, ("user", *whole("end"))]


def as_turns(steps: list[Any]) -> list[tuple[str, list[Any]]]:
    turns: list[tuple[str, list[Any]]] = []
    for role, _, blocks in steps:
        side = "assistant" if role == "assistant" else "user"
        if blocks and turns and turns[-1][0] == side:
            turns[-1][1].extend(blocks)
        elif blocks:
            turns.append((side, list(blocks)))
    return turns
