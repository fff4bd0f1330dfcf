"""Random numbers: one stream for each purpose, so that alternatives that are compared meet the same packets."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_GAMMA = 0x9E3779B97F4A7C15


class Streams:
    """Generators keyed by (seed, replication, purpose); what one purpose draws never moves another's numbers.

    Parameters
    ----------
    seed
        Of the scenario.
    replication
        Which repetition it is, from 0.
    """

    def __init__(self, seed: int, replication: int = 0) -> None:
        self.seed = seed
        self.replication = replication

    def generator(self, purpose: str) -> np.random.Generator:
        """A new generator at the beginning of the purpose's stream."""
        return np.random.Generator(np.random.PCG64(self._seeds(purpose)))

    def key(self, purpose: str) -> np.uint64:
        """What :func:`numbered` starts from for a purpose."""
        return np.uint64(self._seeds(purpose).generate_state(1, np.uint64)[0])

    def _seeds(self, purpose: str) -> np.random.SeedSequence:
        return np.random.SeedSequence(self.seed, spawn_key=(self.replication, zlib.crc32(purpose.encode())))


def numbered(key: np.uint64, number: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """64 random bits for each number, whichever others are asked for, shape (m,).

    They are what SplitMix64 gives when it is asked that often (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
    Generators, OOPSLA 2014), whose every number is told from its place. NumPy's generators give numbers one after the
    other, and take microseconds to be set to a place.

    Parameters
    ----------
    key
        Where the sequence begins.
    number : array of int64, shape (m,)
        Places in it, from 0.
    """
    state = number.view(np.uint64) * np.uint64(_GAMMA)
    state += key
    return hashed(state)


def hashed(keys: npt.NDArray[np.int64] | npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A hash of each key, the same everywhere, of which all bits are equally good: SplitMix64's next number."""
    hashes = keys.view(np.uint64) + np.uint64(_GAMMA)
    shifted = hashes >> np.uint64(30)
    hashes ^= shifted
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    hashes ^= np.right_shift(hashes, np.uint64(27), out=shifted)
    hashes *= np.uint64(0x94D049BB133111EB)
    hashes ^= np.right_shift(hashes, np.uint64(31), out=shifted)
    return hashes
