"""``python -m thick`` is the `thick` program, where no console script is at hand."""

from __future__ import annotations

import sys

try:
    from thick.cli import main
except KeyboardInterrupt:  # before anything was begun
    print("thick: interrupted", file=sys.stderr)
    sys.exit(130)

sys.exit(main())
