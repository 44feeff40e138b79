"""The README's settings table is the program's."""

from __future__ import annotations

from pathlib import Path

from claude_proxy.settings import GROUPS, shown_default

README = Path(__file__).parent.parent.parent / "README.md"


def settings_table() -> str:
    rows = ["| flag | variable | default | what it sets |", "|---|---|---|---|"]
    for option in (option for group in GROUPS.values() for option in group):
        default = shown_default(option.name).removeprefix("; default ")
        flags = f"`{option.short}`, `{option.flag}`" if option.short else f"`{option.flag}`"
        shown = f"`{default}`" if default else ""
        text = option.help.replace("|", "\\|")
        rows.append(f"| {flags} | `{option.variable}` | {shown} | {text} |")
    return "\n".join(rows) + "\n"


def test_the_settings_table_is_true():
    table = settings_table()
    assert table in README.read_text(), f"the table should be:\n{table}"
