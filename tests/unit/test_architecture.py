"""The shape of the house: imports point one way, and no module grows out of hand."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "claude_proxy").rglob("*.py"))
LONGEST_MODULE = 350

# Part of the house: what of ours it may import. Parts that are not named are free, cycles apart.
ALLOWED = {
    "claude_proxy": set(),
    "claude_proxy.conversation": {"claude_proxy.errors"},
    "claude_proxy.errors": set(),
    "claude_proxy.settings": {"claude_proxy"},
    "claude_proxy.journal": set(),
    "claude_proxy.outlet": set(),
    "claude_proxy.log": {"claude_proxy.settings", "claude_proxy.journal", "claude_proxy.outlet"},
    "claude_proxy.directories": set(),
    "claude_proxy.limits": set(),
    "claude_proxy.database": set(),
    "claude_proxy.store": {"claude_proxy.database"},
    "claude_proxy.small_file": set(),
    "claude_proxy.http.lingering": set(),
    "claude_proxy.repetition": set(),
    "claude_proxy.http.parser": {"claude_proxy.errors"},
    "claude_proxy.http.body": {"claude_proxy.errors"},
    "claude_proxy.http.descriptors": {"claude_proxy.repetition", "claude_proxy.settings"},
    "claude_proxy.http.connection": {
        *("claude_proxy.errors", "claude_proxy.http.lingering", "claude_proxy.http.parser"),
        *("claude_proxy.http.refusal", "claude_proxy.http.watched", "claude_proxy.repetition"),
    },
    "claude_proxy.api_key": {
        *("claude_proxy.settings", "claude_proxy.directories", "claude_proxy.small_file"),
    },
    "claude_proxy.description": {
        *("claude_proxy", "claude_proxy.errors", "claude_proxy.openai"),
        *("claude_proxy.anthropic", "claude_proxy.operation"),
    },
    "claude_proxy.operation": {
        *("claude_proxy.openai", "claude_proxy.anthropic", "claude_proxy.money.usage"),
        *("claude_proxy.endpoints.messages", "claude_proxy.endpoints.operations"),
        *("claude_proxy.endpoints.page", "claude_proxy.page.overview"),
    },
    "claude_proxy.dialect": {"claude_proxy.errors"},
    "claude_proxy.openai": {
        *("claude_proxy.conversation", "claude_proxy.dialect", "claude_proxy.errors"),
    },
    "claude_proxy.anthropic": {
        *("claude_proxy.conversation", "claude_proxy.dialect", "claude_proxy.errors"),
    },
    "claude_proxy.page.recent": {"claude_proxy.http.exchange"},
    "claude_proxy.page.files": set(),
    "claude_proxy.http.watched": set(),
    "claude_proxy.claude": {
        *("claude_proxy.conversation", "claude_proxy.errors", "claude_proxy.settings"),
        *("claude_proxy.tasks", "claude_proxy.small_file", "claude_proxy.money.used"),
    },
    "claude_proxy.money.used": {"claude_proxy.conversation"},
    "claude_proxy.money.budget": set(),
    "claude_proxy.money.rate": set(),
    "claude_proxy.http.gate": {"claude_proxy.errors", "claude_proxy.settings"},
    "claude_proxy.clients": {
        *("claude_proxy.settings", "claude_proxy.api_key", "claude_proxy.small_file"),
        *("claude_proxy.values", "claude_proxy.listeners"),
    },
    "claude_proxy.simulator": set(),
    "claude_proxy.commands": {
        *("claude_proxy", "claude_proxy.settings", "claude_proxy.config_file"),
        *("claude_proxy.command_line", "claude_proxy.directories", "claude_proxy.api_key"),
        *("claude_proxy.listeners", "claude_proxy.money.spending", "claude_proxy.claude.cli"),
        *("claude_proxy.small_file", "claude_proxy.clients", "claude_proxy.client_settings"),
        *("claude_proxy.exit_codes", "claude_proxy.manual", "claude_proxy.shell_completions"),
        *("claude_proxy.claude.context", "claude_proxy.claude.models", "claude_proxy.values"),
    },
    "claude_proxy.exit_codes": set(),
    "claude_proxy.shell_completions": {"claude_proxy.command_line", "claude_proxy.settings"},
    "claude_proxy.manual": {
        *("claude_proxy", "claude_proxy.command_line", "claude_proxy.settings"),
        "claude_proxy.exit_codes",
    },
    "claude_proxy.client_settings": set(),
}
# What only these may import.
USERS = {
    "claude_proxy.__main__": set(),
    "claude_proxy.entry": {"claude_proxy.__main__"},
    "claude_proxy.daemon": {"claude_proxy.entry"},
    "claude_proxy.serving": {"claude_proxy.daemon"},
    "claude_proxy.app": {"claude_proxy.serving"},
    "claude_proxy.endpoints": {"claude_proxy.app", "claude_proxy.operation"},
    "claude_proxy.http.connection": {"claude_proxy.http.server"},
    "claude_proxy.http.parser": {"claude_proxy.http.connection"},
    "claude_proxy.http.lingering": {"claude_proxy.http.connection"},
    "claude_proxy.limits": {"claude_proxy.entry"},
    "claude_proxy.journal": {"claude_proxy.log"},
    "claude_proxy.outlet": {"claude_proxy.log"},
    "claude_proxy.streaming": {
        *("claude_proxy.app", "claude_proxy.endpoints", "claude_proxy.page.watch"),
    },
    "claude_proxy.http.watched": {"claude_proxy.http.connection", "claude_proxy.page.watch"},
    "claude_proxy.page": {
        *("claude_proxy.app", "claude_proxy.endpoints.page", "claude_proxy.operation"),
    },
    "claude_proxy.metrics": {"claude_proxy.endpoints.operations"},
    "claude_proxy.description": {"claude_proxy.app"},
    "claude_proxy.operation": {"claude_proxy.description"},
    "claude_proxy.openai": {
        *("claude_proxy.app", "claude_proxy.endpoints", "claude_proxy.description"),
        "claude_proxy.operation",
    },
    "claude_proxy.anthropic": {
        *("claude_proxy.endpoints", "claude_proxy.description", "claude_proxy.operation"),
    },
    "claude_proxy.simulator": set(),
    "claude_proxy.commands": {"claude_proxy.entry"},
    "claude_proxy.manual": {"claude_proxy.commands.man"},
    "claude_proxy.shell_completions": {"claude_proxy.commands.completions"},
    "claude_proxy.claude": {
        *("claude_proxy.app", "claude_proxy.endpoints", "claude_proxy.streaming"),
        *("claude_proxy.daemon", "claude_proxy.demo", "claude_proxy.http.server"),
        *("claude_proxy.serving", "claude_proxy.supervision", "claude_proxy.reload"),
        *("claude_proxy.money.usage", "claude_proxy.metrics"),
        *("claude_proxy.money.limit_headers", "claude_proxy.commands.claude_code"),
        *("claude_proxy.commands.service_endpoint", "claude_proxy.commands.completions"),
        *("claude_proxy.page.overview", "claude_proxy.readiness", "claude_proxy.page.clients"),
    },
}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imports(path: Path) -> set[str]:
    """Modules of ours, wherever in the file they are imported; a name is not a module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                found.add(below if below in MODULES else node.module)
    return {name for name in found if name.split(".")[0] == "claude_proxy"}


GRAPH = {module: imports(path) for module, path in MODULES.items()}


def within(module: str, part: str) -> bool:
    """The top package is its ``__init__`` alone."""
    return module == part or (part != "claude_proxy" and module.startswith(part + "."))


def test_there_is_something_to_look_at():
    assert {"claude_proxy.app", "claude_proxy.claude.pool"} <= GRAPH["claude_proxy.serving"]
    assert "claude_proxy.simulator.app" in MODULES


def test_modules_import_each_other_in_no_circle():
    order = list(graphlib.TopologicalSorter(GRAPH).static_order())
    assert set(order) == set(MODULES)


@pytest.mark.parametrize("part", ALLOWED)
def test_a_part_imports_only_what_lies_below_it(part):
    wrong = {
        f"{module} imports {imported}"
        for module, known in GRAPH.items()
        if within(module, part)
        for imported in known
        if not any(within(imported, below) for below in {part, *ALLOWED[part]})
    }
    assert wrong == set()


@pytest.mark.parametrize("part", USERS)
def test_a_part_is_imported_only_from_above(part):
    wrong = {
        f"{module} imports {imported}"
        for module, known in GRAPH.items()
        if not any(within(module, user) for user in {part, *USERS[part]})
        for imported in known
        if within(imported, part)
    }
    assert wrong == set()


@pytest.mark.parametrize("module", MODULES)
def test_every_module_stays_small(module):
    lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
    assert lines < LONGEST_MODULE
