"""The key by reference: how a program says where it is, without holding it. Pure."""

from __future__ import annotations

import shlex

from claude_proxy.client_settings.snippet import VARIABLE, Endpoint, quoted


def command(endpoint: Endpoint) -> list[str]:
    """Prints it."""
    return ["cat", endpoint.key_file] if endpoint.key_file else list(endpoint.key_command)


def line(endpoint: Endpoint) -> str:
    """The same as one types it."""
    return shlex.join(command(endpoint))


def shell(endpoint: Endpoint) -> str:
    """The key, within double quotes too."""
    return f"$({line(endpoint)})"


def export(endpoint: Endpoint) -> str:
    return f'export {VARIABLE}="{shell(endpoint)}"\n'


def python(endpoint: Endpoint) -> tuple[str, str]:
    """The import and the expression."""
    if endpoint.key_file:
        return "from pathlib import Path", f"Path({quoted(endpoint.key_file)}).read_text().strip()"
    words = ", ".join(map(quoted, endpoint.key_command))
    return "import subprocess", f"subprocess.check_output([{words}], text=True).strip()"


def javascript(endpoint: Endpoint) -> tuple[str, str]:
    """The import and the expression."""
    if endpoint.key_file:
        expression = f'readFileSync({quoted(endpoint.key_file)}, "utf8").trim()'
        return 'import { readFileSync } from "node:fs";', expression
    program, *words = map(quoted, endpoint.key_command)
    expression = f'execFileSync({program}, [{", ".join(words)}], {{ encoding: "utf8" }}).trim()'
    return 'import { execFileSync } from "node:child_process";', expression
