"""journald ends and comes back.

The last file: in the lab nobody keeps journald's sockets meanwhile, as the system's manager
does, so that what had them open, the user manager among them, is not heard any more.
"""

from __future__ import annotations

from tests.systemd.service import NAME, control


def test_nothing_waits_for_a_journald_that_has_ended(service):
    service.start(NAME)
    client = service.client()
    assert client.get("/v1/models").status_code == 200
    control("journald-stop")
    try:
        for _ in range(600):
            assert client.get("/v1/responses/unknown").status_code == 404
    finally:
        control("journald-start")
    id_ = client.get("/v1/responses/once-more").headers["x-request-id"]
    service.wait_for_record("request.done", f"REQUEST_ID={id_}")
    assert service.show("NRestarts") == "0"
