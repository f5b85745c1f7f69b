"""Settings that every test shares; set before torch, numpy and MuJoCo are imported, which read them once."""

from __future__ import annotations

import os

from hypothesis import settings

# The models under test are tiny: more threads only add waiting, and CI says how many it wants.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# gymnasium's checker opens minigrid's window. On a machine without a screen SDL would draw it with EGL and
# shut EGL down afterwards, for the whole process: dm_control could not draw any more.
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

# No deadline: the first example pays for imports and lazy initialisation. In CI the examples stay the same.
settings.register_profile("local", deadline=None, max_examples=50)
settings.register_profile("ci", deadline=None, max_examples=100, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
