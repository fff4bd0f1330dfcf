"""Virtual services as ipvsadm prints them, and as a namespace has them."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.errors import InputError
from kubesim.kernel.ipvs.ipvsadm import (
    ServerRecord,
    ServiceRecord,
    bucket_sizes,
    install_ipvs,
    read_ipvsadm,
    virtual_services,
)
from kubesim.kernel.ipvs.virtual_server import ServiceKey
from kubesim.kernel.namespace import Host

SAVED = """\
-A -t 10.96.0.1:443 -s rr
-a -t 10.96.0.1:443 -r 172.18.0.2:6443 -m -w 1
-A -t 10.96.0.20:80 -s wlc -p 10800
-a -t 10.96.0.20:80 -r 10.244.1.5:8080 -m -w 3
-a -t 10.96.0.20:80 -r 10.244.2.7:8080 -m -w 0
-A -u 10.96.0.10:53 -s mh -b mh-port
-a -u 10.96.0.10:53 -r 10.244.0.2:53 -m -w 1
-A --sctp-service 10.96.0.30:53 -s sh
-A -t [fd00::1]:80 -s rr
-a -t [fd00::1]:80 -r [fd00:1::5]:8080 -m -w 1
-A -f 7 -s wlc
-a -f 7 -r 10.0.0.9:0 -g -w 1
-A -t 10.96.0.40:80 -s conhash
-a -t 10.96.0.40:80 -r 10.244.1.5:8080 -i -w 1
"""


def test_what_was_read_is_printed_again() -> None:
    assert "".join(record.save() for record in read_ipvsadm(SAVED, "table")) == SAVED


def test_records() -> None:
    records = {record.identity: record for record in read_ipvsadm(SAVED, "table")}
    assert records["-t 10.96.0.20:80"] == ServiceRecord(
        ServiceKey("10.96.0.20", "tcp", 80),
        scheduler="wlc",
        timeout_s=10800,
        servers=[ServerRecord("10.244.1.5", 8080, 3), ServerRecord("10.244.2.7", 8080, 0)],
    )
    assert records["-f 7"].servers == [ServerRecord("10.0.0.9", 0, 1, "gatewaying")]
    unmodelled = {name: record.unmodelled() for name, record in records.items() if record.unmodelled()}
    assert unmodelled == {"-f 7": ["fwmark", "gatewaying"], "-t 10.96.0.40:80": ["conhash", "ipip"]}


def test_what_people_write_is_read_too() -> None:
    text = """
# by hand
--add-service --tcp-service 10.96.0.1:80 --scheduler rr --persistent --netmask 255.255.255.0 --ops
--add-server --tcp-service 10.96.0.1:80 --real-server 10.0.0.1 --masquerading --weight 2 --tun-type gue --tun-port 5
-A -u 10.96.0.2:53
"""
    first, second = read_ipvsadm(text, "table")
    assert (first.timeout_s, first.servers) == (360, [ServerRecord("10.0.0.1", 0, 2)])
    assert second.scheduler == "wlc"


def test_services_that_were_read_are_used_by_a_namespace() -> None:
    namespace = Host("node").root
    ipvs = install_ipvs(namespace, read_ipvsadm(SAVED, "table"))
    service = ipvs.service(ServiceKey("10.96.0.20", "tcp", 80))
    assert service is not None
    assert service.is_persistent
    assert service.place_for("10.9.0.1", 1) == ("10.244.1.5", 8080)
    assert ipvs.service(ServiceKey("10.96.0.99", "tcp", 80)) is None
    again = install_ipvs(namespace, read_ipvsadm("-A -t 10.96.0.99:80\n", "table"))
    assert again is ipvs, "its hooks are registered once"
    assert ipvs.service(ServiceKey("10.96.0.20", "tcp", 80)) is None
    assert ipvs.service(ServiceKey("10.96.0.99", "tcp", 80)) is not None


def test_services_by_mark_are_left_out_of_a_walk() -> None:
    records = read_ipvsadm(SAVED, "table")
    assert len(virtual_services(records)) == len(records) - 1


@given(
    last=st.integers(0, 255),
    port=st.integers(1, 65535),
    protocol=st.sampled_from(["tcp", "udp", "sctp"]),
    count=st.integers(1, 600),
)
def test_addresses_in_a_row_fill_the_buckets_alike(last: int, port: int, protocol: str, count: int) -> None:
    numbers = range(last, last + count)
    sizes = bucket_sizes(ServiceKey(f"10.96.{one // 256}.{one % 256}", protocol, port) for one in numbers)
    assert sum(sizes.values()) == count
    assert all(0 <= bucket < 256 for bucket in sizes)
    assert max(sizes.values()) == -(-count // 256)


def test_addresses_of_ipv6_are_folded() -> None:
    assert len(bucket_sizes(ServiceKey(f"fd00:0:0:{n:x}::1", "tcp", 80) for n in range(256))) == 256


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-A -t 10.96.0.1:443\nadd", "table, line 2: a line begins with -A or -a, not 'add'"),
        ("-A -s rr", "it names no service: -t, -u, --sctp-service or -f is needed"),
        ("-A -t localhost:http -s rr", "-t: 'localhost:http' is not ADDRESS:PORT in numbers (ipvsadm -Sn)"),
        ("-A -t [fd00::1:80 -s rr", "-t: '[fd00::1:80' is not ADDRESS:PORT"),
        ("-A -t 10.96.0.1:70000", "-t: 70000 is more than 65535"),
        ("-A -f x", "-f: 'x' is not a number"),
        ("-A 10.96.0.1:80", "'10.96.0.1:80' stands where an option should"),
        ("-A -t 1.1.1.1:1\n-A -t 1.1.1.1:1", "line 2: the service -t 1.1.1.1:1 is there already"),
        ("-a -t 1.1.1.1:1 -r 2.2.2.2:2 -m", "there is no service -t 1.1.1.1:1: its -A has to come first"),
        ("-A -t 1.1.1.1:1\n-a -t 1.1.1.1:1 -m", "-r: '' is not ADDRESS:PORT"),
        ("-A -t 1.1.1.1:1\n-a -t 1.1.1.1:1 -r 2.2.2.2:2 -w -1", "-w: '' is not a number"),
        (
            "-A -t 1.1.1.1:1\n-a -t 1.1.1.1:1 -r 2.2.2.2:2\n-a -t 1.1.1.1:1 -r 2.2.2.2:2",
            "line 3: the service -t 1.1.1.1:1 has the real server 2.2.2.2:2 already",
        ),
    ],
)
def test_a_line_that_makes_no_sense_is_named(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_ipvsadm(text, "table")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_broken_text_never_gives_more_than_an_input_error() -> None:
    chance, started = random.Random(1), time.monotonic()
    letters = [*SAVED, '"', "\\", "\x00", "٣", "é", "\u2028", "[", "]", "-A ", "-a ", "-p", "999999999999"]
    for _ in range(3000):
        text = list(SAVED)
        for _ in range(chance.randint(1, 5)):
            place = chance.randrange(len(text))
            text[place : place + chance.choice((0, 1, 1, 30))] = chance.choices(letters, k=chance.randint(0, 2))
        try:
            read = read_ipvsadm("".join(text), "table")
        except InputError as error:
            assert str(error).startswith("table, line ")
        else:
            assert read_ipvsadm("".join(record.save() for record in read), "again") == read
            virtual_services(read)
    assert time.monotonic() - started < 30
