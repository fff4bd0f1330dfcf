"""Which connections find in Open vSwitch's cache what others have left there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from kubesim.streams import Streams


def draw_cached(upcall_ratio: float | None, flows: int, streams: Streams) -> npt.NDArray[np.bool_]:
    """Whether the megaflows that a flow needs are cached on all nodes; of a cluster without Open vSwitch, none are.

    Parameters
    ----------
    upcall_ratio
        Share of connections that find none; None where there is no Open vSwitch.
    flows
        How many there are.
    streams
        Random numbers.
    """
    if upcall_ratio is None:
        return np.zeros(flows, np.bool_)
    return np.asarray(streams.generator("megaflows of each flow").random(flows) >= upcall_ratio, np.bool_)
