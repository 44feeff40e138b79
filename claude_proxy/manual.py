"""``man claude-proxy``, of the tables that also make ``--help``. Pure; the macros are man(7)'s."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from claude_proxy import __version__
from claude_proxy.command_line import COMMANDS, NOTES, PLAIN, SUMMARY, shown
from claude_proxy.exit_codes import MEANING
from claude_proxy.settings import GROUPS, OPTIONS, Option, shown_default

Item = tuple[str, str]
WIDTH = 78

SERVICE_OF_YOURS = (
    "Clients of either talk to `http://127.0.0.1:8080/v1`; it talks to the official "
    "`claude --print` that you are logged in to, and never sees a token of Anthropic's. "
    "It is for one person on one machine."
)
SERVING = (
    "Without a command it serves, until SIGTERM, which lets running answers end, or a second one, "
    "which does not. SIGHUP has it read its configuration again."
)
FURTHER_VARIABLES: tuple[Item, ...] = (
    ("NO_COLOR", "when it is set and not empty, nothing is coloured on a terminal"),
    ("TERM", "with the value dumb, nothing is coloured and no line is overwritten"),
    ("XDG_CONFIG_HOME", "where claude-proxy/config.toml is looked for; default ~/.config"),
    ("XDG_STATE_HOME", "where claude-proxy/ keeps what is to last; default ~/.local/state"),
    ("STATE_DIRECTORY", "set by systemd: the directory to keep that in"),
    ("CREDENTIALS_DIRECTORY", "set by systemd: the key is its file api-key, if that is there"),
)
OF_CLAUDE_CODE = (
    "All others reach Claude Code, and mean there what they always mean: ANTHROPIC_API_KEY, "
    "CLAUDE_CODE_OAUTH_TOKEN, HTTPS_PROXY."
)
# In the order in which somebody looks for them.
FILES: tuple[Item, ...] = (
    ("~/.config/claude-proxy/config.toml", "any setting by its flag's name, as TOML"),
    ("~/.local/state/claude-proxy/api-key", "the key that was made, of mode 0600"),
    ("~/.local/state/claude-proxy/responses.db", "the responses that are kept"),
    ("~/.local/state/claude-proxy/spending.db", "what was used, and what it cost"),
    (
        "~/.config/systemd/user/claude-proxy.service, claude-proxy.socket",
        "the units that `claude-proxy install` writes",
    ),
    ("$XDG_RUNTIME_DIR/claude-proxy/claude-proxy.sock", "the socket of those units"),
)
# What each of them is for, and the words to type.
EXAMPLES: tuple[Item, ...] = (
    ("Try it without an account:", "claude-proxy --demo"),
    (
        "Listen on another port, and on a socket in the file system:",
        "claude-proxy --listen 127.0.0.1:8090 --listen /tmp/claude-proxy.sock",
    ),
    ("Let a day cost five dollars at most:", "claude-proxy --budget 5/day"),
    ("Run it as a service of yours:", "claude-proxy install"),
    ("Look for what keeps it from working:", "claude-proxy check"),
    ("See what a client has to be told:", "claude-proxy config openai"),
    ("Complete this command line in bash:", "claude-proxy completions bash"),
)
SEE_ALSO = ("systemctl(1)", "journalctl(1)", "systemd.socket(5)")


def page() -> str:
    return "".join(f"{line}\n" for line in lines())


def lines() -> Iterator[str]:
    """A day of its own is not in it: the same program has the same page."""
    yield f'.TH CLAUDE\\-PROXY 1 "" "claude\\-proxy {__version__}" "User Commands"'
    yield from (".SH NAME", f"claude\\-proxy \\- {escaped(SUMMARY.rstrip('.'))}")
    yield from (".SH SYNOPSIS", ".B claude\\-proxy", "[\\fIFLAG\\fR ...] [\\fICOMMAND\\fR]")
    yield from (".SH DESCRIPTION", *text_of(f"{SUMMARY} {SERVICE_OF_YOURS}"))
    yield from (".PP", *text_of(SERVING), ".PP", *text_of(NOTES))
    yield ".SH COMMANDS"
    for name, text in COMMANDS.items():
        yield from tagged(command_tag(name), text)
    yield ".SH OPTIONS"
    yield from options()
    yield ".SH ENVIRONMENT"
    yield from variables()
    yield ".SH FILES"
    for path, text in FILES:
        yield from tagged(f"\\fI{escaped(path)}\\fR", text)
    yield ".SH EXIT STATUS"
    for code, text in MEANING.items():
        yield from tagged(bold(str(code)), text)
    yield ".SH EXAMPLES"
    for number, (text, words) in enumerate(EXAMPLES):
        yield from [".PP"] * (number > 0)  # a section begins with one anyway
        yield from (*text_of(text), ".PP", ".RS 4", ".EX", escaped(words), ".EE", ".RE")
    yield ".SH SEE ALSO"
    yield ", ".join(re.sub(r"(.+)\((\d)\)", r"\\fB\1\\fR(\2)", name) for name in SEE_ALSO)


def options() -> Iterator[str]:
    for plain in PLAIN:
        yield from tagged(", ".join(bold(name) for name in plain.names), plain.help)
    for title, group in GROUPS.items():
        yield f".SS {escaped(title)}"
        for option in group:
            yield from tagged(option_tag(option), option.help + shown_default(option.name))


def variables() -> Iterator[str]:
    for option in OPTIONS.values():
        yield from tagged(bold(option.variable), f"as `{option.flag}`")
    for name, text in FURTHER_VARIABLES:
        yield from tagged(bold(name), text)
    yield from (".PP", *text_of(OF_CLAUDE_CODE))


def tagged(tag: str, text: str) -> Iterator[str]:
    """``tag`` is roff already."""
    yield ".TP"
    yield tag
    yield from text_of(text)


def command_tag(name: str) -> str:
    words = shown(name).split()
    return " ".join([bold(words[0]), *(f"\\fI{escaped(word)}\\fR" for word in words[1:])])


def option_tag(option: Option) -> str:
    names = [option.short, option.flag] if option.short else [option.flag]
    tag = ", ".join(bold(name) for name in names)
    return f"{tag} \\fI{escaped(option.metavar)}\\fR" if option.metavar else tag


def bold(text: str) -> str:
    return f"\\fB{escaped(text)}\\fR"


def text_of(text: str) -> list[str]:
    """Lines of it, each sentence begins one; what stands between backticks is bold."""
    parts = text.split("`")
    marked = "".join(bold(p) if number % 2 else escaped(p) for number, p in enumerate(parts))
    return [
        guarded(line)
        for sentence in re.split(r"(?<=[.;:?]) (?=[A-Z])", marked)
        for line in textwrap.wrap(sentence, WIDTH, break_long_words=False, break_on_hyphens=False)
    ]


def escaped(text: str) -> str:
    """Each hyphen is one that can be pasted."""
    return guarded(text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti"))


def guarded(line: str) -> str:
    """No request of roff's, whatever it begins with."""
    return f"\\&{line}" if line.startswith((".", "'")) else line
