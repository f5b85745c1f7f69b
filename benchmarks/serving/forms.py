"""Arrays and actions as the bodies of the baselines carry them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np


def array(form: Mapping[str, Any]) -> np.ndarray:
    """The array in ``{"dtype", "shape", "data"}``, with base64 text (JSON) or bytes (msgpack)."""
    data = form["data"]
    raw = base64.b64decode(data) if isinstance(data, str) else data
    return np.frombuffer(raw, form["dtype"]).reshape(form["shape"])


def plain(action: Any) -> Any:
    """An action as JSON and msgpack carry it."""
    return action.tolist() if isinstance(action, np.ndarray) else action
