"""``python -m thick`` is the `thick` program, where no console script is at hand."""

from __future__ import annotations

import sys

from thick.cli import main

sys.exit(main())
