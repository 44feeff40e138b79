"""What is installed below ``share`` is what the program prints. To write it anew:

python -m tests.unit.test_share
"""

from __future__ import annotations

import pytest

from claude_proxy import manual
from claude_proxy.commands.completions import text
from tests.documents import ROOT

SHARE = ROOT / "docs" / "share"
PRINTED = {
    "man/man1/claude-proxy.1": manual.page,
    "bash-completion/completions/claude-proxy": lambda: text("bash"),
    "zsh/site-functions/_claude-proxy": lambda: text("zsh"),
    "fish/vendor_completions.d/claude-proxy.fish": lambda: text("fish"),
}


@pytest.mark.parametrize("name", PRINTED)
def test_it_is_what_the_program_prints(name):
    assert (SHARE / name).read_text() == PRINTED[name](), "python -m tests.unit.test_share"


def test_there_is_nothing_else():
    assert {str(p.relative_to(SHARE)) for p in SHARE.rglob("*") if p.is_file()} == set(PRINTED)


if __name__ == "__main__":
    for name, printed in PRINTED.items():
        (SHARE / name).write_text(printed())
