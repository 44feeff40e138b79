"""Model names: what clients write, and what the CLI takes."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from claude_proxy.claude.models import ModelInfo, Models, parse_list
from claude_proxy.errors import ModelNotFound

LISTED = [
    ModelInfo("default", "claude-sonnet-4-5-20250929"),
    ModelInfo("sonnet", "claude-sonnet-4-5-20250929"),
    ModelInfo("opus", "claude-opus-4-6"),
    ModelInfo("opusplan", ""),
    ModelInfo("sonnet[1m]", "claude-sonnet-4-5-20250929[1m]"),
    ModelInfo("us.anthropic.Claude-haiku_4-v1:0"),
]


def models(default: str = "sonnet", **aliases: str) -> Models:
    known = Models(default, aliases)
    known.update(LISTED)
    return known


@pytest.mark.parametrize(
    ("asked", "model"),
    [
        ("sonnet", "sonnet"),
        ("SONNET", "sonnet"),
        (" haiku ", "haiku"),
        ("claude-sonnet-4.5", "sonnet"),
        ("claude_opus", "opus"),
        ("claude-opus", "opus"),
        ("claude-3-5-haiku-latest", "haiku"),
        ("anthropic/claude-3-5-sonnet-20241022", "sonnet"),
        ("openrouter/anthropic/claude-opus-4.1", "opus"),
        ("claude-3.7-sonnet:thinking", "sonnet"),
        ("claude-3-5-sonnet@20240620", "sonnet"),
        ("claude-3-5-sonnet-20241022-v2:0", "sonnet"),
        ("Claude Sonnet 4", "sonnet"),
        ("opusplan", "opusplan"),
        ("", "sonnet"),
        ("default", "sonnet"),
        ("Claude", "sonnet"),
    ],
)
def test_names_are_normalised_to_a_family(asked, model):
    assert models().resolve(asked) == model


@pytest.mark.parametrize(
    ("asked", "model"),
    [
        ("claude-opus-4-6", "claude-opus-4-6"),
        ("claude-opus-4.6", "claude-opus-4-6"),
        ("anthropic/Claude-Opus-4-6", "claude-opus-4-6"),
        ("claude-opus-4-5", "opus"),
        ("sonnet[1m]", "sonnet[1m]"),
        ("claude-sonnet-4-5-20250929[1M]", "claude-sonnet-4-5-20250929[1m]"),
        ("us.anthropic.claude-haiku_4-v1:0", "us.anthropic.Claude-haiku_4-v1:0"),
    ],
)
def test_exact_ids_that_the_cli_lists_are_kept_as_it_writes_them(asked, model):
    assert models().resolve(asked) == model


@pytest.mark.parametrize(
    "asked", ["gpt-4o", "o3", "claude-instant", "mysonnet", "sonnetto", "claude-", "/", "*"]
)
def test_other_names_are_not_found_and_told_the_known_ones(asked):
    known = models()
    with pytest.raises(ModelNotFound) as caught:
        known.resolve(asked)
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")
    assert f"'{asked}'" in caught.value.message
    assert all(name in caught.value.message for name in known.ids())


def test_a_very_long_name_is_not_repeated_whole():
    with pytest.raises(ModelNotFound) as caught:
        models().resolve("x" * 1_000_000)
    assert len(caught.value.message) < 1_000


def test_the_families_are_there_before_the_cli_has_listed_anything():
    known = Models("opus", {})
    assert known.ids() == ["haiku", "sonnet", "opus"]
    assert known.resolve("") == "opus"


def test_the_default_may_be_any_name_even_an_unknown_one():
    assert models("claude-opus-4.6").resolve("") == "claude-opus-4-6"
    assert models("my-own-model").resolve("default") == "my-own-model"


def test_a_new_list_replaces_the_old_one():
    known = models()
    known.update([ModelInfo("fable", "claude-fable-1")])
    assert known.ids() == ["haiku", "sonnet", "opus", "fable", "claude-fable-1"]
    assert known.resolve("claude-fable-2") == "fable"
    assert known.resolve("claude-opus-4-6") == "opus"


def test_ids_name_families_exact_ids_and_plain_aliases_once():
    known = models(**{"gpt-4o": "opus", "gpt-*": "haiku", "opus": "sonnet"})
    assert known.ids() == [
        *("haiku", "sonnet", "opus", "opusplan", "claude-sonnet-4-5-20250929"),
        *("claude-opus-4-6", "sonnet[1m]", "claude-sonnet-4-5-20250929[1m]"),
        *("us.anthropic.Claude-haiku_4-v1:0", "gpt-4o"),
    ]


@pytest.mark.parametrize(
    ("asked", "model"),
    [
        ("gpt-4o", "opus"),
        ("GPT-4o", "opus"),
        ("gpt-5-mini", "haiku"),
        ("gpt-5", "claude-opus-4-6"),
        ("sonnet", "opus"),
        ("text-embedding", "unlisted-model"),
        ("haiku", "haiku"),
    ],
)
def test_aliases_come_first_in_their_order_and_may_hold_stars(asked, model):
    aliases = {
        "gpt-4o": "Opus",
        "gpt-*-mini": "haiku",
        "gpt-*": "claude-opus-4.6",
        "sonnet": "opus",
        "text-*": "unlisted-model",
    }
    assert models(**aliases).resolve(asked) == model


def test_only_the_star_is_special_in_an_alias():
    known = models(**{"gpt[4]*": "opus"})
    assert known.resolve("gpt[4]-turbo") == "opus"


def test_a_request_that_names_no_model_gets_the_default_also_beside_a_catch_all_alias():
    assert models("haiku", **{"*": "opus"}).resolve("") == "haiku"


ids = st.from_regex(r"[a-z0-9][a-z0-9._:@\[\]-]{0,20}", fullmatch=True)


@given(st.lists(st.tuples(ids, ids | st.just("")), max_size=5))
def test_every_id_that_is_named_resolves_to_itself(listed):
    assume(all("claude" not in pair for pair in listed))
    known = Models("sonnet", {})
    known.update([ModelInfo(value, resolved) for value, resolved in listed])
    assert [known.resolve(name) for name in known.ids()] == known.ids()


@pytest.mark.parametrize(
    "name", ["arn:aws:bedrock:us-east-1:1:application-inference-profile/abc", "org/my-model"]
)
def test_an_exact_id_with_a_slash_resolves_to_itself(name):
    known = Models("sonnet", {})
    known.update([ModelInfo(name)])
    assert name in known.ids()
    assert known.resolve(name) == name


def test_the_clis_list_is_read():
    response = {
        "models": [
            {"value": "opus", "resolvedModel": "claude-opus-4-6", "displayName": "Opus", "x": 1},
            {"value": "haiku"},
        ]
    }
    opus = ModelInfo("opus", "claude-opus-4-6", "Opus")
    assert parse_list(response) == [opus, ModelInfo("haiku")]


@pytest.mark.parametrize("response", [None, {}, [], {"models": None}, {"models": [{"value": 1}]}])
def test_a_response_that_is_no_list_lists_nothing(response):
    assert parse_list(response) == []
