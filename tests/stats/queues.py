"""Queues played by the project's own engine, for statistics of many repetitions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kubesim.engine import ENGINES, UNLIMITED, Plan, Trace

SCALE = 1_000_000
"""Nanoseconds per unit of time, which is the mean service: rounding is far below what is tested."""


def many_queues(
    arrivals: npt.NDArray[np.float64], services: npt.NDArray[np.float64], places: int = UNLIMITED
) -> tuple[Plan, Trace]:
    """Stations of one server that have nothing to do with each other, one for each row, in one plan."""
    stations, packets = arrivals.shape
    plan = Plan(
        release_ns=np.rint(arrivals * SCALE).astype(np.int64).ravel(),
        station=np.repeat(np.arange(stations), packets)[:, None],
        service_ns=np.maximum(1, np.rint(services * SCALE)).astype(np.int64).reshape(-1, 1),
        servers=np.ones(stations, np.int64),
        capacity=np.full(stations, places),
    )
    return plan, ENGINES["simpy"](plan)


def sojourns(trace: Trace, stations: int) -> npt.NDArray[np.float64]:
    """Time from arrival to departure, in units of time, shape (stations, packets)."""
    return (trace.sojourn_ns()[:, 0] / SCALE).reshape(stations, -1)


def mm1(load: float, stations: int, packets: int, seed: int) -> tuple[Plan, Trace]:
    """M/M/1 at a load, as often as wanted, each empty at first."""
    random = np.random.default_rng(seed)
    arrivals = np.cumsum(random.exponential(1 / load, (stations, packets)), axis=1)
    return many_queues(arrivals, random.exponential(1.0, (stations, packets)))


def closed_loops(systems: int, clients: int, rounds: int, think: float, seed: int) -> tuple[Plan, Trace]:
    """Servers that have nothing to do with each other, each with clients who think and then wait for an answer."""
    random = np.random.default_rng(seed)
    shape = (systems, clients, rounds)
    thinks = np.rint(random.exponential(think, shape) * SCALE).astype(np.int64)
    number = np.arange(thinks.size).reshape(shape)
    is_first = number % rounds == 0
    plan = Plan(
        release_ns=np.where(is_first, thinks, 0).ravel(),
        station=np.repeat(np.arange(systems), clients * rounds)[:, None],
        service_ns=np.maximum(1, np.rint(random.exponential(1.0, (thinks.size, 1)) * SCALE)).astype(np.int64),
        servers=np.ones(systems, np.int64),
        capacity=np.full(systems, UNLIMITED),
        after=np.where(is_first, -1, number - 1).ravel(),
        think_ns=thinks.ravel(),
    )
    return plan, ENGINES["simpy"](plan)
