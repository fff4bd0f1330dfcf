"""Closed formulas of queueing theory that simulations are held against (Kleinrock, Queueing Systems I, 1975)."""

from __future__ import annotations

import math


def _check_stable(load: float) -> None:
    if not 0 <= load < 1:
        raise ValueError(f"the queue is unstable: offered load per server {load}")


def mm1_mean_waiting(arrival_rate: float, service_rate: float) -> float:
    """Mean waiting time of M/M/1, in the inverse unit of the rates.

    Raises
    ------
    ValueError
        If the load is 1 or more.
    """
    return mmc_mean_waiting(arrival_rate, service_rate, 1)


def md1_mean_waiting(arrival_rate: float, service_time: float) -> float:
    """Mean waiting time of M/D/1 (Pollaczek and Khinchine, no variance).

    Raises
    ------
    ValueError
        If the load is 1 or more.
    """
    load = arrival_rate * service_time
    _check_stable(load)
    return load * service_time / (2 * (1 - load))


def mg1_mean_waiting(arrival_rate: float, mean_service: float, service_deviation: float) -> float:
    """Mean waiting time of M/G/1 (Pollaczek and Khinchine).

    Raises
    ------
    ValueError
        If the load is 1 or more.
    """
    load = arrival_rate * mean_service
    _check_stable(load)
    return arrival_rate * (mean_service**2 + service_deviation**2) / (2 * (1 - load))


def erlang_c(offered_load: float, servers: int) -> float:
    """Probability that an arrival has to wait in M/M/c (Erlang's second formula).

    Parameters
    ----------
    offered_load
        Arrival rate over service rate, in servers.
    servers
        Their number, c.

    Raises
    ------
    ValueError
        If the load is 1 or more per server.
    """
    _check_stable(offered_load / servers)
    blocking = 1.0
    for count in range(1, servers + 1):
        blocking = offered_load * blocking / (count + offered_load * blocking)
    return blocking / (1 - offered_load / servers * (1 - blocking))


def mmc_mean_waiting(arrival_rate: float, service_rate: float, servers: int) -> float:
    """Mean waiting time of M/M/c.

    Raises
    ------
    ValueError
        If the load is 1 or more per server.
    """
    return erlang_c(arrival_rate / service_rate, servers) / (servers * service_rate - arrival_rate)


def mm1k_loss(load: float, places: int) -> float:
    """Probability that an arrival finds M/M/1/K full; the load may be 1 or more."""
    if math.isclose(load, 1.0):
        return 1 / (places + 1)
    return (1 - load) * load**places / (1 - load ** (places + 1))
