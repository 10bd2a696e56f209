"""Perceptual hashes: which pictures look nearly the same.

A difference hash: the picture in grey, 17 x 16, and of each pixel whether its right neighbour is
brighter: 256 bits that hardly change with the file's format, size or quality.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

Print = npt.NDArray[np.uint8]

_SIDE = 16
_BITS = _SIDE * _SIDE
NEAR_BITS = 12
"""In how many of 256 bits two pictures that look nearly the same may differ. Two photos that have
nothing in common differ in some 128, of the same thing in 60 and more."""

_FLAT = 2.0
"""A picture whose grey values deviate less has noise for a hash."""


def difference_hash(picture: Image.Image) -> Print | None:
    """Return the hash of an RGB picture, uint8 of shape (32,); None for one that shows nothing."""
    grey = picture.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX)
    values = np.asarray(grey).astype(np.int16)
    if values.std() < _FLAT:
        return None
    return np.packbits(values[:, 1:] > values[:, :-1])


def near_groups(prints: Sequence[Print | None]) -> list[int]:
    """Return a number for each picture, the same for those that look nearly the same.

    Numbers are places in `prints`: each group goes by its first member. Two hashes that differ in
    at most `NEAR_BITS` bits agree in one of `NEAR_BITS` + 1 pieces, so only those that share a
    piece are compared.
    """
    leaders = list(range(len(prints)))
    known = [(place, found) for place, found in enumerate(prints) if found is not None]
    if not known:
        return leaders
    places = np.array([place for place, _ in known])
    bits = np.unpackbits(np.stack([found for _, found in known]), axis=1)
    for piece in np.array_split(np.arange(_BITS), NEAR_BITS + 1):
        keys = np.packbits(bits[:, piece], axis=1)
        _, members, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
        order = np.argsort(members.ravel(), kind="stable")
        ends = np.cumsum(counts)
        for end, count in zip(ends, counts, strict=True):
            if count > 1:
                _join_near(leaders, places, bits, order[end - count : end])
    return [_leader(leaders, place) for place in range(len(leaders))]


def _join_near(
    leaders: list[int],
    places: npt.NDArray[np.int64],
    bits: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64],
) -> None:
    """Join each of these rows with those behind it that are near."""
    for at, row in enumerate(rows[:-1]):
        others = rows[at + 1 :]
        near = (bits[others] != bits[row]).sum(axis=1) <= NEAR_BITS
        for other in others[near]:
            first = _leader(leaders, int(places[row]))
            second = _leader(leaders, int(places[other]))
            leaders[max(first, second)] = min(first, second)


def _leader(leaders: list[int], place: int) -> int:
    while leaders[place] != place:
        leaders[place] = leaders[leaders[place]]
        place = leaders[place]
    return place
