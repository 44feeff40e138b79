"""For fish 3 or newer."""

from __future__ import annotations

from collections.abc import Iterator

from claude_proxy.shell_completions.grammar import Flag, Grammar

BEGIN = """\
# fish completion for claude-proxy, printed by `claude-proxy completions fish`

complete -c claude-proxy -f
"""


def script(grammar: Grammar) -> str:
    seen = f"__fish_seen_subcommand_from {' '.join(grammar.commands)}"
    lines = [line for flag in grammar.flags for line in flags(flag)]
    for name, text in grammar.commands.items():
        lines.append(f"complete -c claude-proxy -n 'not {seen}' -a {name} -d '{text}'")
    for command, known in grammar.words.items():
        after = f"__fish_seen_subcommand_from {command}"
        none_yet = f"not __fish_seen_subcommand_from {' '.join(known)}"
        lines.append(
            f"complete -c claude-proxy -n '{after}; and {none_yet}' -a '{' '.join(known)}'"
        )
    return BEGIN + "".join(f"{line}\n" for line in lines)


def flags(flag: Flag) -> Iterator[str]:
    names = " ".join(
        f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in flag.names
    )
    yield f"complete -c claude-proxy {names}{value(flag)} -d '{flag.text}'"


def value(flag: Flag) -> str:
    """``-r``: it takes a value, ``-F``: a file, ``-x``: nothing but what is listed here."""
    if flag.value is None:
        return ""
    if flag.is_path:
        return " -r -F"
    return f" -x -a '{' '.join(flag.words)}'" if flag.words else " -x"
