"""``GET /v1/models`` and ``/v1/models/{id}``. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

# The CLI tells no dates; clients want one that never changes: 2025-01-01.
CREATED = 1_735_689_600


class Model(msgspec.Struct):
    id: str
    object: Literal["model"] = "model"
    created: int = CREATED
    owned_by: str = "anthropic"


class ModelList(msgspec.Struct):
    data: list[Model]
    object: Literal["list"] = "list"


def to_list(ids: Iterable[str]) -> bytes:
    return msgspec.json.encode(ModelList([Model(name) for name in ids]))


def to_model(name: str) -> bytes:
    return msgspec.json.encode(Model(name))
