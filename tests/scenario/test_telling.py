"""Ways in words."""

from __future__ import annotations

import pytest

from kubesim.errors import InputError
from kubesim.kernel.walk import Context, Hop
from kubesim.scenario import trace
from kubesim.scenario.stops import Stop, StopKind
from kubesim.scenario.telling import clauses, handed_over, sentence
from kubesim.scenario.visits import PricedHop, Role
from tests.clusters import ROUTED
from tests.scenarios import scenario

SAME_NODE = {"endpoint_nodes": ["node-1"]}


def without_times(text: str) -> str:
    """A way in words without what it costs, which is another cost set's tomorrow."""
    return "\n".join(
        line.rpartition(" (")[0] if line[:4].strip(" .").isdecimal() else line for line in text.split("\n")
    )


def test_the_first_packet_to_a_service_on_the_same_node() -> None:
    found = trace(scenario(cluster=SAME_NODE), "client-1", "svc-04")
    text = without_times(found.text(["first"])).rpartition(". ")[0]
    assert (
        text
        == """\
first packet: tcp 10.244.0.2:40000 → 10.96.0.4:80

node-1, namespace default/client-1:
  1. socket: system call that sends; TCP output
  2. routing: FIB lookup
  3. eth0: IP output; over to the peer's backlog

node-1, root namespace:
  4. veth-default/client-1: taken from this core's backlog
  5. cni0: bridge input; passes br_prerouting
  6. PREROUTING (iif cni0): conntrack finds no entry and makes one; nat: 9 rules tested, iptables match ×7, \
a rule of KUBE-SEP-FIQBVUNZWZWSEWIX (default/svc-04) says DNAT to 10.244.0.12:8080; NAT is settled; \
NAT rewrites the header; destination 10.96.0.4:80 → 10.244.0.12:8080
  7. routing: FIB lookup
  8. cni0: FDB lookup; passes br_forward
  9. FORWARD (iif cni0, oif cni0): filter: 9 rules tested, iptables match ×14, a rule of FLANNEL-FWD \
(flanneld forward) says ACCEPT; passes br_postrouting
 10. POSTROUTING (oif cni0): nat: 5 rules tested, iptables match ×5, none decides; NAT is settled; \
conntrack confirms the entry
 11. veth-default/svc-04-0: over to the peer's backlog

node-1, namespace default/svc-04-0:
 12. eth0: taken from this core's backlog
 13. routing: IP input; FIB lookup
 14. socket: TCP input; the waiting process is woken; system call that receives returns

delivered to default/svc-04-0: tcp 10.244.0.2:40000 → 10.244.0.12:8080"""
    )


def test_the_reply_gets_the_virtual_address_back_from_ipvs() -> None:
    found = trace(scenario(cni=ROUTED, proxy="ipvs", cluster=SAME_NODE), "client-1", "svc-04")
    lines = found.packet("reply").text().split("\n")
    (forward,) = [line for line in lines if "FORWARD" in line]
    assert without_times(forward) == (
        "  7. FORWARD (iif cali-default/svc-04-0, oif cali-default/client-1): filter: 4 rules tested, iptables match ×6, "
        "a rule of KUBE-FORWARD (kubernetes forwarding conntrack rule) says ACCEPT; IPVS looks for its connection; "
        "IPVS rewrites the header; source 10.244.0.12:8080 → 10.96.0.4:80"
    )


def test_a_tunnel_is_put_around_and_taken_off() -> None:
    lines = without_times(trace(scenario(cni="calico-ipip"), "client-1", "svc-04").text(["first"])).split("\n")
    assert [line[5:] for line in lines if "tunl0:" in line] == [
        "tunl0: IP output; IPIP encapsulation; now in ipencap 192.168.0.11 → 192.168.0.12",
        "tunl0: IPIP decapsulation; handed up by gro_cells; now tcp 10.244.0.2:40000 → 10.244.1.11:8080",
    ]


def test_a_refusal_is_said_with_its_rule() -> None:
    text = trace(scenario(cluster={"endpoints": 0}), "client-1", "svc-04").text()
    assert "a rule of KUBE-SERVICES (default/svc-04 has no endpoints) says REJECT" in text
    assert "got nowhere: connection refused, rejected by filter/FORWARD of node-1" in text


def test_times_and_shares() -> None:
    found = trace(scenario(), "client-1", "svc-04").packet("first")
    (line,) = [line for line in found.text().split("\n") if "system call that sends" in line]
    assert line.endswith(f"({found.stops[0].cost_ns / 1000:.2f} µs, {found.stops[0].cost_ns / found.total_ns:.1%})")


def test_all_packets_or_those_asked_for() -> None:
    found = trace(scenario(), "client-1", "svc-04")
    assert found.text() == "\n\n".join(packet.text() for packet in found.packets)
    assert found.text(["reply"]) == found.packets[3].text()
    assert "<pre>first packet: tcp" in found._repr_html_()
    with pytest.raises(InputError, match="packet: there is no 'replay': did you mean 'reply'"):
        found.text(["replay"])
    with pytest.raises(InputError, match=r"there is no reply: the first packet got nowhere: 8\.8\.8\.8 is not"):
        trace(scenario(), "client-1", "8.8.8.8").text(["reply"])


def stop(*operations: str, context: Context = Context.SOFTIRQ, kind: StopKind = StopKind.DEVICE) -> Stop:
    """A stop at which something is done that has no words."""
    hops = tuple(PricedHop(Hop("a", context, name, 2, 0, "x0"), Role.SOFTIRQ, 1, 0.0) for name in operations)
    return Stop("a", "a", kind, "x0", hops, (), (), (), ())


def test_operations_without_words_are_called_by_their_names() -> None:
    assert clauses(stop("bpf_program", "bpf_map_lookup")) == ["bpf program ×2", "bpf map lookup ×2"]


def test_who_works_in_a_process_is_said() -> None:
    relay = stop("tun_read", context=Context.DAEMON, kind=StopKind.PROCESS)
    assert sentence(relay, total_ns=4) == "x0 (daemon): tun read ×2 (1 ns, 25.0%)"


def test_who_takes_over() -> None:
    assert handed_over(stop("backlog")) == "this core's backlog, softirq"
    for context in (Context.DAEMON, Context.WORKER):
        assert handed_over(stop("cipher", context=context, kind=StopKind.PROCESS)) == f"over to x0 ({context.value})"
    assert handed_over(stop("bpf_program")) == ""
