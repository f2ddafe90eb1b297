"""IBM System/360 floating point, as SAS transport files hold it: ±fraction·16^(exponent − 64), with a fraction of 56 bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGEST = 16.0**63 * (1 - 2.0**-53)  # that a number of 64 bits can be and that IBM can hold
SMALLEST = 16.0**-65


def decode_ibm(raw: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """IBM floating-point numbers, big-endian, cut to 2 to 8 bytes. raw: (n, bytes). Gives values (n,), NaN where missing, and the
    character of the missing value (n,), 0 where there is a number. value = ±fraction·16^(exponent − 64), fraction of 56 bits.
    """
    whole = np.zeros((len(raw), 8), np.uint8)
    whole[:, : raw.shape[1]] = raw
    bits = whole.view(">u8").reshape(-1).astype(np.uint64)
    fraction = bits & np.uint64(0x00FFFFFFFFFFFFFF)
    first = whole[:, 0]
    missing = (fraction == 0) & ((first == ord(".")) | (first == ord("_")) | ((first >= ord("A")) & (first <= ord("Z"))))
    exponent = 4 * ((first & 0x7F).astype(np.int32) - 64) - 56
    values = np.ldexp(fraction.astype(np.float64), exponent)
    values[first >= 128] *= -1
    values[missing] = np.nan
    return values + 0.0, np.where(missing, first, 0).astype(np.uint8)


def encode_ibm(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(n, 8) IBM floating-point numbers; exact for |value| between 16^−65 and 16^63, `.` for NaN."""
    missing = np.isnan(values)
    m, e = np.frexp(np.where(missing, 0.0, np.abs(values)))
    power = -(-e // 4)  # of 16
    fraction = np.ldexp(m, e - 4 * power + 56).astype(np.uint64)
    first = np.where(fraction == 0, 0, power + 64).astype(np.uint64) | np.where(values < 0, 128, 0).astype(np.uint64)
    bits = np.where(fraction == 0, np.uint64(0), (first << np.uint64(56)) | fraction)
    bits = np.where(missing, np.uint64(ord(".") << 56), bits)
    return bits.astype(">u8").view(np.uint8).reshape(-1, 8)
