"""For zsh: as a file ``_claude-proxy`` in ``fpath``, or sourced after ``compinit``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from claude_proxy.shell_completions.grammar import Flag, Grammar

BEGIN = """\
#compdef claude-proxy
# zsh completion for claude-proxy, printed by `claude-proxy completions zsh`

_claude-proxy() {
  local curcontext=$curcontext state line
  typeset -A opt_args
  _arguments -s -S \\
"""
MIDDLE = """\
    '1:command:->command' \\
    '2:word:->word'
  case $state in
    command)
      local -a commands=(
"""
WORDS = """\
      )
      _describe command commands ;;
    word)
      case $line[1] in
"""
END = """\
      esac ;;
  esac
}

if [[ $funcstack[1] == _claude-proxy ]]; then
  _claude-proxy "$@"
else
  compdef _claude-proxy claude-proxy
fi
"""


def script(grammar: Grammar) -> str:
    flags = [f"    {spec} \\\n" for flag in grammar.flags for spec in specs(flag)]
    commands = [f"        '{name}:{text}'\n" for name, text in grammar.commands.items()]
    words = [
        f"        {command}) _values {command} {' '.join(known)} ;;\n"
        for command, known in grammar.words.items()
    ]
    return "".join([BEGIN, *flags, MIDDLE, *commands, WORDS, *words, END])


def specs(flag: Flag) -> Iterator[str]:
    """One for each of its names; with one of them there, the other is not offered any more."""
    before = "*" if flag.repeatable else f"({' '.join(flag.names)})"
    for name in flag.names:
        yield f"'{before}{name}{taking(flag, name)}[{quoted(flag.text)}]{value(flag)}'"


def taking(flag: Flag, name: str) -> str:
    """`--flag=value` or `--flag value`; `-fvalue` or `-f value`."""
    if flag.value is None:
        return ""
    return "=" if name.startswith("--") else "+"


def value(flag: Flag) -> str:
    if flag.value is None:
        return ""
    action = "_files" if flag.is_path else listed(flag.words)
    return f":{quoted(flag.value)}:{action}"


def listed(words: Sequence[str]) -> str:
    return f"({' '.join(words)})" if words else " "


def quoted(text: str) -> str:
    """Within a spec's brackets or between its colons."""
    return re.sub(r"([\[\]:\\])", r"\\\1", text)
