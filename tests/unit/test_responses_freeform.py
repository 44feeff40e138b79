"""A custom tool's text, out of the pieces of the JSON that it comes in."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from claude_proxy.openai.responses import freeform
from claude_proxy.openai.responses.freeform import FreeformInput, to_arguments

# A busy machine is no failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Lone halves of surrogate pairs as well, and what JSON escapes.
characters = (
    st.characters() | st.characters(categories=["Cs"]) | st.sampled_from('"\\/\b\n\t\0\x7f')
)
texts = st.text(characters, max_size=30)
blanks = st.text(" \n\r\t", max_size=3)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def escaped(character: str, *, upper: bool) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    codes = [units[index : index + 2].hex() for index in range(0, len(units), 2)]
    return "".join(rf"\u{code.upper() if upper else code}" for code in codes)


@st.composite
def written(draw, text: str) -> str:
    """A JSON string: each character in any of the ways in which JSON can write it."""
    made = []
    for character in text:
        short = json.dumps(character)[1:-1]
        ways = [short, escaped(character, upper=False), escaped(character, upper=True)]
        if character not in '"\\' and not re.match("[\ud800-\udfff]", character):
            ways.append(character)  # a control character, too: models are not that careful
        made.append(draw(st.sampled_from(ways)))
    return '"' + "".join(made) + '"'


@st.composite
def split(draw, text: str) -> list[str]:
    cuts = draw(st.lists(st.integers(0, len(text)), max_size=8))
    ends = [0, *sorted(cuts), len(text)]
    return [text[start:end] for start, end in pairwise(ends)]


def told(text: str) -> str:
    """As JSON can be sent: no half of a pair can."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def fed(pieces: list[str]) -> list[str]:
    freeform_input = FreeformInput()
    return [*(freeform_input.feed(piece) for piece in pieces), freeform_input.end()]


@unhurried
@given(texts, st.lists(blanks, min_size=6, max_size=6), st.data())
@example("\ud83d\ude00", [""] * 6, None)
def test_any_text_in_any_pieces_is_that_text(text, blank, data):
    string = json.dumps(text) if data is None else data.draw(written(text))
    start, behind, colon, before, end, last = blank
    arguments = f'{start}{{{behind}"input"{colon}:{before}{string}{end}}}{last}'
    pieces = list(arguments) if data is None else data.draw(split(arguments))
    assert "".join(fed(pieces)) == told(json.loads(string, strict=False))


@unhurried
@given(texts, st.data())
def test_what_is_given_is_never_taken_back_wherever_it_is_cut_off(text, data):
    string = data.draw(written(text))
    arguments = f'{{"input":{string}}}'
    said = "".join(fed(data.draw(split(arguments[: data.draw(st.integers(0, len(arguments)))]))))
    said.encode()
    assert told(json.loads(string, strict=False)).startswith(said)


@unhurried
@given(st.text(), st.integers(0, 10))
def test_the_text_comes_as_it_is_written(text, missing):
    """At most an unfinished escape waits for the next piece."""
    arguments = to_arguments(text)
    cut = max(len('{"input":"'), len(arguments) - len('"}') - missing)
    given_so_far = FreeformInput().feed(arguments[:cut])
    assert text.startswith(given_so_far)
    assert len(text) - len(given_so_far) <= missing + 1


@pytest.mark.parametrize("pieces", [['{"input":"ab', 'c"}'], ['{"inp', 'ut"', ': "ab', 'c"', "}"]])
def test_deltas_are_deltas(pieces):
    said = fed(pieces)
    assert said[-1] == ""
    assert [piece for piece in said if piece] == ["ab", "c"]


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([r'{"input":"a\u00', 'e4b"}'], ["a", "äb", ""]),
        (['{"input":"a\\', 'nb"}'], ["a", "\nb", ""]),
        ([r'{"input":"\ud83d', r"\ude", '00!"}'], ["", "", "😀!", ""]),
        ([r'{"input":"\ud83dx', 'y"}'], ["", "", "\ufffdxy"]),
        ([r'{"input":"x\ude00', 'y"}'], ["x", "", "\ufffdy"]),
        (['{"input":"a\nb\0"}'], ["a\nb\0", ""]),
        (['{"input":""}'], ["", ""]),
        (["{}"], ["", ""]),
        ([""], ["", ""]),
        ([], [""]),
        # Cut off
        (['{"input":"ab'], ["ab", ""]),
        (['{"input":"ab\\'], ["ab", ""]),
        (['{"input"'], ["", ""]),
        # The first of two stands: it has been given already.
        (['{"input":"a","input":"b"}'], ["a", ""]),
        (['{"input":"a","x":1}'], ["a", ""]),
        (['{"x":1,"input":"a"}'], ["", "a"]),
        ([r'{"\u0069nput":"a"}'], ["", "a"]),
        # Not what the schema says: as it was spoken
        (['{"input":7}'], ["", '{"input":7}']),
        (['{"command":', '"ls"}'], ["", "", '{"command":"ls"}']),
        (['{"input":{"input":"a"}}'], ["", '{"input":{"input":"a"}}']),
        (["nonsense"], ["", ""]),
        (['{"input":"a"} and more', ' "input"'], ["a", "", ""]),
        ([r'{"input":"a\x"}'], ["a", ""]),
    ],
)
def test_odd_arguments(pieces, said):
    assert fed(pieces) == said


@unhurried
@given(st.dictionaries(texts.filter(lambda name: name != "input"), values, min_size=1), st.data())
def test_another_object_is_passed_on_as_it_was_spoken(arguments, data):
    spoken = json.dumps(arguments)
    assert "".join(fed(data.draw(split(spoken)))) == spoken


@unhurried
@given(st.text(), st.data())
def test_any_nonsense_is_survived(text, data):
    "".join(fed(data.draw(split(text)))).encode()


def test_a_depth_that_python_cannot_read_is_survived():
    assert fed(['{"x":' + "[" * 200_000]) == ["", ""]


@unhurried
@given(st.text())
def test_a_text_goes_back_as_the_arguments_that_the_schema_wants(text):
    arguments = to_arguments(text)
    assert json.loads(arguments) == {freeform.FIELD: text}
    assert "".join(fed([arguments])) == text


def test_the_schema_is_of_one_string():
    schema = json.loads(freeform.SCHEMA)
    assert list(schema["properties"]) == schema["required"] == [freeform.FIELD]
    assert schema["properties"][freeform.FIELD]["type"] == "string"


@pytest.mark.parametrize("text", ["a" * 10**6, '"\\\n😀' * 10**5], ids=["plain", "escapes"])
def test_a_long_text_costs_no_more_than_its_length(text):
    """What is looked at again with the next piece stays short."""
    arguments = json.dumps({"input": text})
    freeform_input = FreeformInput()
    said, longest = [], 0
    for start in range(0, len(arguments), 10):
        said.append(freeform_input.feed(arguments[start : start + 10]))
        longest = max(longest, len(freeform_input._unread))
    assert "".join(said) == text
    assert longest < 22


def test_other_arguments_are_not_looked_at_again_with_every_piece():
    freeform_input = FreeformInput()
    for _ in range(1_000):
        assert freeform_input.feed('{"command":') == ""
        assert len(freeform_input._unread) <= freeform.LONGEST_OPENING + 11
