"""Packets in bursts: how frames look, how timings are summed up, and a few bursts through the host's kernel."""

from __future__ import annotations

import ctypes
import ipaddress
import json
import struct

import pytest

from kubesim.errors import InputError
from kubesim.kernel.ipvs.virtual_server import ServiceKey
from kubesim.kernel.netfilter.ruleset import RuleSet
from kubesim.twin import bursts, frames, lanes
from kubesim.twin.bursts import Timing
from kubesim.twin.frames import Flow, checksum, udp_frame
from kubesim.twin.inside import run_tool
from kubesim.twin.namespaces import datagrams_refused, frames_received
from tests.netns import needs_kernel, require


def test_a_frame_has_its_headers_and_right_checksums() -> None:
    frame = udp_frame(Flow("10.0.0.1", 4000, "10.0.0.2", 53), "02:00:00:00:00:01", "02:00:00:00:00:02", 10)
    assert frame[:14].hex() == "020000000002" + "020000000001" + "0800"
    header, datagram = frame[14:34], frame[34:]
    assert len(datagram) == 18
    assert struct.unpack("!H", header[2:4]) == (38,)
    assert str(ipaddress.ip_address(header[16:20])) == "10.0.0.2"
    assert struct.unpack("!HHH", datagram[:6]) == (4000, 53, 18)
    assert checksum(header) == 0  # RFC 1071: over data with its checksum, 0
    assert checksum(header[12:20] + struct.pack("!HH", 17, 18) + datagram) == 0


def test_messages_are_as_long_as_the_kernel_has_them() -> None:
    """``struct mmsghdr`` on 64-bit machines: a wrong one has ``sendmmsg`` stop after the first message."""
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        pytest.skip("not a 64-bit machine")
    assert ctypes.sizeof(frames._Message) == 64
    assert frames._Message.sent_bytes.offset == 56


def test_counters_are_read() -> None:
    table = "Inter-| Receive\n face |bytes packets\n    lo:  10 1 0\n  eth0:99 12 0 0\n"
    assert frames_received(table, "eth0") == 12
    with pytest.raises(InputError, match="no device eth1"):
        frames_received(table, "eth1")
    assert datagrams_refused("Tcp: A\nTcp: 1\nUdp: InDatagrams NoPorts InErrors\nUdp: 4 5 6\n") == 6


def test_timings_are_summed_up() -> None:
    timing = Timing.of([float(value) for value in range(100, 140)])
    assert timing.best_decile_ns == pytest.approx(101.5)
    assert timing.median_ns == pytest.approx(119.5)
    assert timing.error_ns == pytest.approx(0.5)
    assert Timing.of([5.0]) == Timing(5.0, 5.0, 0.0)


def test_services_of_a_bucket_share_it_and_others_spread() -> None:
    target = ServiceKey(lanes.NEAR_VIP, "udp", 81).bucket
    assert {ServiceKey(address, "udp", 81).bucket for address in lanes.same_bucket_addresses(600)} == {target}
    assert len(set(lanes.same_bucket_addresses(600))) == 600
    buckets = [ServiceKey(address, "udp", 80).bucket for address in lanes.other_addresses(9999)]
    assert {buckets.count(bucket) for bucket in set(buckets)} == {39, 40}


def test_rules_are_rules_and_the_target_is_last() -> None:
    rules = RuleSet()
    rules.restore(lanes.service_rules(100) + lanes.CONNTRACK_RULES, "rules")
    portals = [line for line in rules.save().splitlines() if line.startswith("-A KUBE-SERVICES")]
    assert len(portals) == 100
    assert portals[-1].startswith(f"-A KUBE-SERVICES -d {lanes.NEAR_VIP}/32")
    assert portals[-1].endswith("-j KUBE-SVC")


def test_flows_of_a_way() -> None:
    lane = lanes.Lane("x", None, "10.0.0.1", lambda: 0, flows=2)  # type: ignore[arg-type]
    assert len(set(lane.frames(10))) == 2
    lane.flows = None
    assert len(set(lane.frames(10))) == 10


def test_every_way_that_prices_need_is_designed() -> None:
    names = list(bursts.designs())
    assert len(names) == len(set(names))
    assert {"routed", "local", "vxlan to the wire", "ipvs lc, 1000 servers", "iptables, 10000 services"} <= set(names)


def test_a_way_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bursts.main(["--only", "carrier pigeon"])
    assert ended.value.code == 2
    assert "there is no way with 'carrier pigeon'" in capsys.readouterr().err


def test_the_hosts_conntrack_table_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bursts.main(["--full-table"])
    assert "use a user-mode kernel" in capsys.readouterr().err


def test_a_run_has_its_modules() -> None:
    wide, full = bursts._modules([]), bursts._modules(["--full-table"])
    assert "ip_vs conn_tab_bits=16" in wide
    assert "ip_vs" not in wide
    assert "nf_conntrack hashsize=262144" in full
    assert "nf_conntrack" not in full
    assert bursts._modules(["--connections"]) == bursts.MODULES


def test_errors_of_commands_are_one_line() -> None:
    with pytest.raises(InputError, match="no-such-program is not installed"):
        run_tool("no-such-program")
    with pytest.raises(InputError, match=r"^sh -c exit 3: exit code 3$"):
        run_tool("sh", "-c", "exit 3")


def test_the_processor_has_a_name() -> None:
    assert bursts.processor("processor: 0\nmodel name\t: Fast One\n") == "Fast One"
    assert bursts.processor("")


class TestOnTheHost:
    """A burst through each kind of way that any kernel has."""

    pytestmark = needs_kernel

    @pytest.mark.parametrize("name", ["bridge", "routed", "host-gw", "vxlan", "iptables, 100 services", "local"])
    def test_packets_arrive(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        require("ip", "bridge", "iptables-legacy-restore")
        chosen = bursts.designs()[name]
        result = bursts.measure({name: chosen}, rounds=1, frames=512)
        assert result["missing"] == {}
        assert all(timing["median_ns"] > 0 for timing in result["ns_per_packet"].values())
        assert json.dumps(result)
        assert capsys.readouterr().out == ""
