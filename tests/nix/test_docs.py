"""The Nix in README.md and docs/ is Nix."""

from __future__ import annotations

import pytest

from tests.documents import marked
from tests.nix.evaluation import needs_nix, run


@needs_nix
@pytest.mark.parametrize("block", marked("parse"), ids=str)
def test_it_is_nix(block):
    assert run("--parse", "--expr", block.text)
