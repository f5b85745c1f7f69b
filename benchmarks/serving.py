"""Throughput and latency of the service, over every transport, compared with LitServe and a plain FastAPI application.

    python benchmarks/serving.py [--quick] [--json FILE]

Prints the tables of docs/operations/performance.md. Needs ``pip install -e '.[service,dev]' litserve``; runs on this
machine alone (loopback), with models of random weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.serving.command import main

if __name__ == "__main__":
    sys.exit(main())
