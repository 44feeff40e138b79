"""The table of options in docs/nix.md, as the module declares them.

``python -m tests.nix.table`` prints it.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from tests.nix.evaluation import HERE, evaluate

NOTHING = {"null", "{}", "[]", None}


def declared() -> list[dict[str, Any]]:
    """``name``, ``type``, ``default`` (Nix or JSON), ``readOnly`` and ``description`` of each."""
    return evaluate(f"(import {HERE}/declared.nix).listed")


def plain(description: str) -> str:
    """Without the roles of Nix's manuals, on one line."""
    text = re.sub(r"\{\w+}`", "`", " ".join(description.split()))
    return text.replace("|", "\\|")


def shown(option: dict[str, Any]) -> str:
    default = "" if option["default"] in NOTHING else f"`{option['default']}`"
    if option["readOnly"]:
        default = "to be read"
    kind = plain(option["type"]["name"])
    return f"| `{option['name']}` | {kind} | {default} | {plain(option['description'])} |"


def table() -> str:
    rows = [
        "| option of `my.ai.claudeProxy` | type | default | what it sets |",
        "|---|---|---|---|",
    ]
    # `settings.*` are the rows of the settings' own table.
    return (
        "\n".join([*rows, *(shown(each) for each in declared() if "." not in each["name"])]) + "\n"
    )


if __name__ == "__main__":
    sys.stdout.write(table())
