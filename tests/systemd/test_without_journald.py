"""journald ends and comes back.

The last file: in the lab nobody keeps journald's sockets meanwhile, as the system's manager
does, so that what had them open, the user manager among them, is not heard any more.
"""

from __future__ import annotations

from tests.systemd.service import answers_without_journald


def test_nothing_waits_for_a_journald_that_has_ended(service):
    answers_without_journald(service, "stop", "start")
