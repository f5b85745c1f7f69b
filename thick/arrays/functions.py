"""exp, log and erfinv of float32 arrays, the same bits on every processor.

numpy's own depend on the instructions that a processor has. These use additions, multiplications, divisions and roots
in float64 alone, which IEEE 754 defines to the last bit, and round once at the end: they are the right float32 nearly
always, and one step off at most.
"""

from __future__ import annotations

import math

import numpy as np

_LOG2 = math.log(2.0)
_ROOT_HALF = 0.5**0.5
_EXP = [1.0 / math.factorial(power) for power in range(9, -1, -1)]
_ATANH = [2.0 / power for power in range(15, 0, -2)]

# Wichura, Algorithm AS 241: the percentage points of the normal distribution (1988), PPND16: numerator, denominator.
_CENTRE = (
    [2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
     1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0],
    [5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
     5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0],
)  # fmt: skip
_TAIL = (
    [7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
     3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0],
    [1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
     6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0],
)  # fmt: skip
_FAR = (
    [2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
     2.96560571828504891230e-1, 1.78482653991729133580e0, 5.46378491116411436990e0, 6.65790464350110377720e0],
    [2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
     1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0],
)  # fmt: skip


def exp(x: np.ndarray) -> np.ndarray:
    """e^x of float32."""
    return _exp(np.asarray(x, np.float64))


def power(x: np.ndarray, exponent: float) -> np.ndarray:
    """x^exponent of float32 > 0."""
    return _exp(_log(np.asarray(x, np.float64)) * exponent)


def _exp(x: np.ndarray) -> np.ndarray:
    x = np.minimum(np.maximum(x, -110.0), 90.0)  # beyond: 0 and infinity in float32; NaN stays
    twos = np.rint(x * (1.0 / _LOG2))
    y = _polynomial(_EXP, x - twos * _LOG2)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return np.ldexp(y, twos.astype(np.int32)).astype(np.float32)


def log(x: np.ndarray) -> np.ndarray:
    """ln x of float32; -inf at 0, NaN below."""
    return _log(np.asarray(x, np.float64)).astype(np.float32)


def _log(x: np.ndarray) -> np.ndarray:
    part, twos = np.frexp(x)  # part in [0.5, 1)
    low = part < _ROOT_HALF
    part, twos = np.where(low, 2 * part, part), twos - low
    if np.min(x, initial=1.0) > 0 and np.max(x, initial=1.0) < np.inf:
        ratio = (part - 1.0) / (part + 1.0)
        return twos * _LOG2 + ratio * _polynomial(_ATANH, ratio * ratio)  # type: ignore[no-any-return]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = (part - 1.0) / (part + 1.0)
        y = twos * _LOG2 + ratio * _polynomial(_ATANH, ratio * ratio)
        y = np.where(x > 0, np.where(x < np.inf, y, np.inf), np.where(x == 0, -np.inf, np.nan))
    return y


def log_of(x: float) -> float:
    """ln x of one number > 0, in float64."""
    part, twos = math.frexp(x)
    if part < _ROOT_HALF:
        part, twos = 2 * part, twos - 1
    ratio = (part - 1.0) / (part + 1.0)
    return twos * _LOG2 + ratio * _horner(_ATANH, ratio * ratio)


def exp_of(x: float) -> float:
    """e^x of one number, in float64; 0 and infinity beyond what that holds."""
    if not -700.0 < x < 700.0:
        return 0.0 if x < 0 else math.inf if x > 0 else x
    twos = round(x * (1.0 / _LOG2))
    return math.ldexp(_horner(_EXP, x - twos * _LOG2), twos)


def _horner(coefficients: list[float], x: float) -> float:
    y = coefficients[0]
    for coefficient in coefficients[1:]:
        y = y * x + coefficient
    return y


def erfinv(x: np.ndarray) -> np.ndarray:
    """The inverse of the error function, of float32 in (-1, 1)."""
    half = 0.5 * np.asarray(x, np.float64)  # distance of the probability from one half
    inner = 0.180625 - half * half
    y = np.asarray(half * _ratio(_CENTRE, inner))
    outer = np.abs(half) > 0.425
    if outer.any():
        tail = half[outer]
        depth = np.sqrt(-_log(0.5 - np.abs(tail)))
        near, far = _ratio(_TAIL, depth - 1.6), _ratio(_FAR, depth - 5.0)
        y[outer] = np.copysign(np.where(depth <= 5.0, near, far), tail)
    return (y * math.sqrt(0.5)).astype(np.float32)


def _polynomial(coefficients: list[float], x: np.ndarray) -> np.ndarray:
    """By Horner's rule, the highest power first."""
    y = x * coefficients[0]
    for coefficient in coefficients[1:-1]:
        y += coefficient
        y *= x
    y += coefficients[-1]
    return y  # type: ignore[no-any-return]


def _ratio(parts: tuple[list[float], list[float]], x: np.ndarray) -> np.ndarray:
    above, below = parts
    return _polynomial(above, x) / _polynomial(below, x)
