"""How hypothesis makes examples."""

from __future__ import annotations

import hypothesis

# No database of examples, which a plain user could not write beside the tests; no time limit on a busy machine.
hypothesis.settings.register_profile("nbcontainer", database=None, deadline=None)
hypothesis.settings.load_profile("nbcontainer")
