"""Where user namespaces are forbidden: the drop-in, and what says that it is needed."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.systemd.service import NAME, ROOT, UNITS, ask, systemctl


def test_the_shipped_unit_fails_and_check_says_what_to_do(service):
    with pytest.raises(AssertionError, match="failed"):
        service.start(NAME)
    service.wait_for_state("failed")
    assert service.show("ExecMainStatus") in ("217", "226")
    checked = subprocess.run(
        [sys.executable, "-m", "claude_proxy", "check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 1
    assert "no-sandbox.conf" in checked.stdout


def test_with_the_drop_in_it_runs(service):
    shutil.copy(UNITS / "no-sandbox.conf", service.units / f"{NAME}.d")
    systemctl("daemon-reload")
    service.start()
    assert ask(service.client(), "[simulate text=ok]").status_code == 200
    assert service.show("NoNewPrivileges") == "yes"
