"""A plugin of pytest (``-p tests.no_torch``): as in an environment without torch, importing it fails."""

import sys

sys.modules["torch"] = None  # type: ignore[assignment]
