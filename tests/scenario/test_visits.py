"""Whose core does what, hop by hop."""

from __future__ import annotations

from kubesim.cost import DEFAULT_COST_SET, load_cost_set
from kubesim.kernel.walk import Context, Hop
from kubesim.scenario.visits import Role, priced


def roles(*contexts: Context) -> list[Role]:
    hops = [Hop("node-1", context, "route_lookup", 1, 0, "") for context in contexts]
    return [one.role for one in priced(hops, load_cost_set(DEFAULT_COST_SET))]


def test_softirq_runs_where_the_packet_is_in_hand() -> None:
    way = [Context.PROCESS, Context.SOFTIRQ, Context.NIC, Context.WIRE, Context.PORT, Context.SOFTIRQ, Context.PROCESS]
    assert roles(*way) == [Role.SEND, Role.SEND, Role.NIC, Role.WIRE, Role.PORT, Role.SOFTIRQ, Role.RECEIVE]


def test_a_thread_on_the_way_goes_on_with_the_packet() -> None:
    way = [Context.PROCESS, Context.SOFTIRQ, Context.DAEMON, Context.SOFTIRQ, Context.NIC, Context.PORT]
    assert roles(*way) == [Role.SEND, Role.SEND, Role.DAEMON, Role.DAEMON, Role.NIC, Role.PORT]
    way = [Context.PORT, Context.SOFTIRQ, Context.WORKER, Context.SOFTIRQ, Context.PROCESS]
    assert roles(*way) == [Role.PORT, Role.SOFTIRQ, Role.WORKER, Role.WORKER, Role.RECEIVE]
    way = [Context.PORT, Context.SOFTIRQ, Context.STEERED, Context.SOFTIRQ, Context.NIC, Context.PORT, Context.SOFTIRQ]
    steered = [Role.PORT, Role.SOFTIRQ, Role.STEERED, Role.STEERED, Role.NIC, Role.PORT, Role.SOFTIRQ]
    assert roles(*way) == steered, "up to the next machine"
    way = [Context.PORT, Context.SOFTIRQ, Context.WORKER, Context.PEER, Context.SOFTIRQ, Context.PROCESS]
    assert roles(*way) == [Role.PORT, Role.SOFTIRQ, Role.WORKER, Role.PEER, Role.PEER, Role.RECEIVE]


def test_each_buffer_of_a_packet_that_was_cut_pays() -> None:
    costs = load_cost_set(DEFAULT_COST_SET)
    whole, cut = priced(
        [
            Hop("node-1", Context.DAEMON, "tun_read", 1, 10 * 1472, ""),
            Hop("node-1", Context.DAEMON, "tun_read", 1, 10 * 1472, "", buffers=10),
        ],
        costs,
    )
    fixed = costs.operation("tun_read").fixed_ns
    assert fixed is not None
    assert cut.cost_ns - whole.cost_ns == 9 * fixed.value, "bytes are all the packet's"
