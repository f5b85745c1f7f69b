"""Bins for distributions over numbers, exponentially far apart (DreamerV3, Hafner et al., 2023, equation 9)."""

from __future__ import annotations

import numpy as np

BINS = 127
"""an odd number: the middle one is 0"""
REACH = 9.0
"""symlog of the largest number: about 8,100; what lies beyond is taken as that"""


def bins() -> np.ndarray:
    """Their places ``[BINS]`` in float64, ``symexp`` of equal steps: 0.15 apart near 0, far away 15 %."""
    above = np.expm1(np.linspace(0, REACH, BINS // 2 + 1)[1:])
    return np.concatenate([-above[::-1], [0.0], above])
