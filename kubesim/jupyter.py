"""What shows itself in Jupyter with pictures, which its own layer knows nothing of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubesim import html
from kubesim.scenario import TraceResult, tracing
from kubesim.scenario.showing import trace_pieces, trace_title

if TYPE_CHECKING:
    from kubesim.report import Picture
    from kubesim.scenario import Scenario


@dataclass(frozen=True, repr=False)
class DrawnTrace(TraceResult):
    """The ways of a connection's packets, that of the first one drawn."""

    def picture(self, *kinds: str) -> Picture:
        """The ways of some packets side by side: of the first one, if none is named.

        Parameters
        ----------
        *kinds
            ``first``, ``first_reply``, ``established``, ``reply``.

        Raises
        ------
        InputError
            If there is no such packet.
        """
        from kubesim.report import picture_of_trace  # noqa: PLC0415 - who does not look needs no drawing library

        return picture_of_trace(self, kinds or ("first",))

    def _repr_html_(self) -> str:
        drawn = html.image(self.picture().svg(), f"the way of the first packet from {self.source} to {self.target}")
        return html.shown(trace_title(self), drawn, *trace_pieces(self))


def trace(
    scenario: Scenario,
    source: str,
    target: str,
    *,
    protocol: str | None = None,
    payload_bytes: int = tracing.DEFAULT_BYTES,
) -> DrawnTrace:
    """Follow a new connection's packets.

    Parameters
    ----------
    scenario, source, target, protocol, payload_bytes
        As :func:`kubesim.scenario.trace` takes them.

    Returns
    -------
    DrawnTrace
        A :class:`TraceResult` that shows the way of the first packet in Jupyter.

    Raises
    ------
    InputError
        If there is no such source or target.
    """
    found = tracing.trace(scenario, source, target, protocol=protocol, payload_bytes=payload_bytes)
    return DrawnTrace(found.provenance, found.notices, found.source, found.target, found.packets)
