"""How far service times are from their means: numbers that belong to a message and a purpose, wherever one begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from kubesim.streams import Streams


class Normals:
    """Normal numbers, one for each message and purpose.

    A visit's numbers are its role's: of alternatives that bring packets to receivers by ways of different lengths, each
    receiver is as quick or slow as in the others. Each is drawn by the inverse of the distribution function from one
    number of a generator that can be set to any place of its sequence, so that messages may be planned in any order.

    Parameters
    ----------
    streams
        Random numbers.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._generators: dict[str, np.random.Generator] = {}
        self._places: dict[str, int] = {}

    def of(self, purpose: str, number: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """The numbers of a purpose for messages, shape (m,), which are in order."""
        from scipy.special import ndtri  # noqa: PLC0415 - takes a while to import

        if not len(number):
            return np.empty(0)
        begins = np.flatnonzero(np.diff(number, prepend=number[0] - 2) != 1)
        counts = np.diff(begins, append=len(number))
        uniform = np.empty(len(number))
        for begin, first, count in zip(begins.tolist(), number[begins].tolist(), counts.tolist(), strict=True):
            self._go_to(purpose, first)
            self._generators[purpose].random(out=uniform[begin : begin + count])
            self._places[purpose] += count
        return np.asarray(ndtri(uniform), np.float64)

    def _go_to(self, purpose: str, place: int) -> None:
        """Set the purpose's generator to a place."""
        if purpose not in self._generators:
            self._generators[purpose], self._places[purpose] = self._streams.generator(purpose), 0
        distance = place - self._places[purpose]
        if distance:
            bits = self._generators[purpose].bit_generator
            assert isinstance(bits, np.random.PCG64)  # noqa: S101 - what streams are made of
            bits.advance(distance % (1 << 128))  # its period, so that it goes back as well
            self._places[purpose] = place


def spread_of(
    mean_ns: npt.NDArray[np.float64], deviation_ns: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Standard deviation, and half the variance, of the logarithm of times with these means and deviations."""
    relative = np.divide(deviation_ns, mean_ns, out=np.zeros_like(mean_ns), where=mean_ns > 0)
    variance = np.log1p(relative**2)
    return np.sqrt(variance), variance / 2


def whole_ns(time_ns: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Times in whole nanoseconds of at least 1."""
    return np.maximum(np.rint(time_ns), 1).astype(np.int64)
