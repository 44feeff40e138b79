"""For bash 4.4 or newer, without the package bash-completion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from claude_proxy.shell_completions.grammar import Flag, Grammar

# Readline makes a word of its own of the `=` in `--flag=value`.
BEGIN = """\
# bash completion for claude-proxy, printed by `claude-proxy completions bash`

_claude_proxy() {
  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command= word= at
  if [[ $current == = ]]; then
    current=
  elif [[ $before == = ]]; then
    before=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  COMPREPLY=()
  case $before in
"""
FILES = """\
      compopt -o filenames
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      return ;;
"""
COMMAND = """\
  esac
  for ((at = 1; at < COMP_CWORD; at++)); do
    word=${COMP_WORDS[at]}
    case $word in
      %s)
        [[ ${COMP_WORDS[at + 1]} == = ]] && ((at++))
        ((at++)) ;;
      -*) ;;
      *)
        command=$word
        break ;;
    esac
  done
  case $current:$command in
"""
END = """\
  esac
}
complete -F _claude_proxy claude-proxy
"""


def script(grammar: Grammar) -> str:
    takers = [flag for flag in grammar.flags if flag.value is not None]
    return "".join(
        [
            BEGIN,
            *values(takers),
            COMMAND % alternatives(takers),
            *words(grammar),
            END,
        ]
    )


def values(takers: Sequence[Flag]) -> Iterator[str]:
    """What stands behind a flag; where nobody can guess it, nothing is offered."""
    paths = [flag for flag in takers if flag.is_path]
    rest = [flag for flag in takers if not flag.is_path and not flag.words]
    yield f"    {alternatives(paths)})\n{FILES}"
    for flag in takers:
        if flag.words:
            yield f"    {alternatives([flag])})\n{offer(flag.words)}      return ;;\n"
    yield f"    {alternatives(rest)}) return ;;\n"


def words(grammar: Grammar) -> Iterator[str]:
    """Flags anywhere, a command once, behind some commands a word of their own."""
    flags = [name for flag in grammar.flags for name in flag.names]
    yield f"    -*)\n{offer(flags)}      ;;\n"
    yield f"    *:)\n{offer(list(grammar.commands))}      ;;\n"
    for command, known in grammar.words.items():
        yield f"    *:{command})\n"
        yield '      [[ $before == "$command" ]] || return\n'
        yield f"{offer(known)}      ;;\n"


def alternatives(flags: Sequence[Flag]) -> str:
    return " | ".join(name for flag in flags for name in flag.names)


def offer(known: Sequence[str]) -> str:
    return f'      mapfile -t COMPREPLY < <(compgen -W "{" ".join(known)}" -- "$current")\n'
