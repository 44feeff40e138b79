"""``GET /v1/models`` and ``/v1/models/{id}`` in Anthropic's form. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

# Which is to be told of a model of unknown date.
EPOCH = "1970-01-01T00:00:00Z"


class Page(msgspec.Struct):
    """The query of the list."""

    after_id: str | None = None
    before_id: str | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 20


class Model(msgspec.Struct):
    """``max_input_tokens`` is the whole window, ``max_tokens`` the longest answer."""

    id: str
    display_name: str
    max_input_tokens: int
    max_tokens: int
    created_at: str = EPOCH
    lifecycle: Literal["active"] = "active"
    type: Literal["model"] = "model"


class ModelList(msgspec.Struct):
    data: list[Model]
    has_more: bool
    first_id: str | None
    last_id: str | None


def to_list(described: Iterable[tuple[str, str, int, int]], page: Page) -> bytes:
    """``described``: the first fields of ``Model``. An id that is not there cuts nothing."""
    models = [Model(*one) for one in described]
    ids = [model.id for model in models]
    if page.after_id in ids:
        models = models[ids.index(page.after_id) + 1 :]
    if page.before_id in ids:
        end = ids.index(page.before_id)
        models = models[max(0, end - page.limit) : end]
        has_more = end > page.limit
    else:
        has_more = len(models) > page.limit
    shown = models[: page.limit]
    first, last = (shown[0].id, shown[-1].id) if shown else (None, None)
    return msgspec.json.encode(ModelList(shown, has_more, first, last))


def to_model(described: tuple[str, str, int, int]) -> bytes:
    return msgspec.json.encode(Model(*described))
