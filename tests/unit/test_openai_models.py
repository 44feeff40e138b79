"""The list of models, as OpenAI's own types read it."""

from __future__ import annotations

import pytest
from openai.types import Model
from pydantic import BaseModel

from claude_proxy.openai.models import CREATED, to_list, to_model


class Page(BaseModel, extra="forbid"):
    object: str
    data: list[Model]


@pytest.mark.parametrize("ids", [[], ["opus"], ["sonnet[1m]", "gpt-4o", "opus"]])
def test_a_list_names_every_id_in_order(ids):
    page = Page.model_validate_json(to_list(iter(ids)), strict=True)
    assert page.object == "list"
    assert [model.id for model in page.data] == ids


def test_a_model_is_what_the_list_says_of_it():
    model = Model.model_validate_json(to_model("opus"), strict=True)
    assert not model.model_extra
    assert (model.id, model.object, model.owned_by) == ("opus", "model", "anthropic")
    assert model.created == CREATED
    assert Page.model_validate_json(to_list(["opus"])).data == [model]
