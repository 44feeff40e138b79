from __future__ import annotations

from hypothesis import settings

# Its own limit is 200 ms for an example, which says more of what else the machine does.
settings.register_profile("on a busy machine", deadline=5_000)
settings.load_profile("on a busy machine")
