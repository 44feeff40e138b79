from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.nix.evaluation import HERE, HOME_MANAGER, evaluate, nixpkgs


@pytest.fixture(scope="session")
def sources(tmp_path_factory) -> str:
    """Nixpkgs, as an argument of the functions below."""
    return f"nixpkgs = {nixpkgs(tmp_path_factory.mktemp('nixpkgs'))};"


@pytest.fixture
def home(sources) -> Callable[..., Any]:
    """What comes of these options of a user's: units' files, packages, failed assertions, values.

    ``more`` are further arguments of ``home.nix``, ``modules`` further modules.
    """

    def home(options: str = "", *, modules: str = "", more: str = "") -> Any:
        return evaluate(
            f"""import {HERE}/home.nix {{
              {sources} homeManager = {HOME_MANAGER}; {more}
              modules = [ {{ my.ai.claudeProxy = {{ {options} }}; }} {modules} ];
            }}"""
        )

    return home


@pytest.fixture
def system(sources) -> Callable[..., Any]:
    """The same of a system's configuration; without home-manager unless that is asked for."""

    def system(
        options: str = "", *, modules: str = "", more: str = "", home_manager: bool = False
    ) -> Any:
        with_it = f"homeManager = {HOME_MANAGER};" if home_manager else ""
        return evaluate(
            f"""import {HERE}/system.nix {{
              {sources} {with_it} {more}
              modules = [ {{ my.ai.claudeProxy = {{ {options} }}; }} {modules} ];
            }}"""
        )

    return system
