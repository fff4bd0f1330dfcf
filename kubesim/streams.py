"""Random numbers: one stream for each purpose, so that alternatives that are compared meet the same packets."""

from __future__ import annotations

import zlib

import numpy as np


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
        key = (self.replication, zlib.crc32(purpose.encode()))
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=key)))
