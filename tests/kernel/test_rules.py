"""Chains: the indexed walk is the naive walk, and all ways together are one."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubesim.kernel.address import Prefix
from kubesim.kernel.namespace import Host
from kubesim.kernel.netfilter.chain import Chain
from kubesim.kernel.netfilter.matches import Comment, Mark, Statistic, Transport
from kubesim.kernel.netfilter.rule import Header, Match, Probe, Rule
from kubesim.kernel.netfilter.targets import Accept, DestinationNat, Drop, Goto, Jump, Random, Return, SetMark, Target
from kubesim.kernel.netfilter.traversal import State, Traversal
from kubesim.kernel.packet import Packet
from kubesim.kernel.walk import Chance

ADDRESSES = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
CHAINS = ["A", "B", "C"]
NO_CHAINS: dict[str, Chain] = {}
PROBE = Probe(Packet("10.9.0.1", "10.0.0.1", "tcp", 5, 80, 0), Host("node").root, "eth0", None)


@st.composite
def rule_sets(draw: st.DrawFn) -> dict[str, Chain]:
    """Chains that may jump only to later ones, so that every walk ends."""
    chains = {}
    for position, name in enumerate(["BASE", *CHAINS]):
        later = CHAINS[position:]
        rules = draw(st.lists(rule(later), max_size=6))
        chains[name] = Chain(name, rules)
    return chains


def rule(later: list[str]) -> st.SearchStrategy[Rule]:
    """A rule, often for one destination only."""
    targets: list[st.SearchStrategy[Target | None]] = [
        st.none(),
        st.just(Accept()),
        st.just(Drop()),
        st.just(Return()),
        st.just(SetMark(1, 1)),
        st.builds(DestinationNat, st.sampled_from(ADDRESSES), st.integers(1, 3)),
    ]
    if later:
        targets += [st.builds(Jump, st.sampled_from(later)), st.builds(Goto, st.sampled_from(later))]
    matches: st.SearchStrategy[list[Match]] = st.lists(
        st.sampled_from(
            [
                Comment("x"),
                Transport.to("tcp", 80),
                Transport.to("tcp", 81),
                Mark(1, 1),
                Mark(1, 1, is_inverted=True),
            ]
        ),
        max_size=2,
    )
    header = st.builds(
        Header,
        protocol=st.sampled_from([None, None, "tcp", "udp"]),
        destination=st.sampled_from([None, *map(Prefix, ADDRESSES), Prefix("10.0.0.0/24"), Prefix("10.5.0.0/16")]),
        not_destination=st.booleans(),
    )
    return st.builds(Rule, st.one_of(targets), header, matches.map(tuple))


@dataclass
class NaiveWalk:
    """Tests rule after rule, as the kernel does, with none of the simulator's code but the matches."""

    chains: dict[str, Chain]
    tested: int = 0
    mark: int = 0
    verdict: Target | None = None
    runs: int = 0
    _state: State = field(default_factory=lambda: State(Chain(""), 0))

    def enter(self, name: str) -> str:
        """Walk a chain; ``done`` if something ended the walk, else ``end``."""
        for one in self.chains[name].rules:
            self.tested += 1
            if not self._matches(one):
                continue
            outcome = self._act(one.target)
            if outcome != "next":
                return outcome
        return "end"

    def _matches(self, one: Rule) -> bool:
        if not one.header.accepts(PROBE):
            return False
        self._state.mark = self.mark
        for match in one.matches:
            self.runs += 1
            if match.probability(PROBE, self._state) == 0:
                return False
        return True

    def _act(self, target: Target | None) -> str:
        if target is None:
            return "next"
        if isinstance(target, SetMark):
            self.mark = (self.mark & ~target.mask) ^ target.value
            return "next"
        if isinstance(target, Jump):
            return "done" if self.enter(target.chain) == "done" else "next"
        if isinstance(target, Goto):
            return self.enter(target.chain)
        if isinstance(target, Return):
            return "end"
        self.verdict = target
        return "done"


@settings(max_examples=3000, deadline=None)
@given(chains=rule_sets())
def test_the_indexed_walk_is_the_naive_walk(chains: dict[str, Chain]) -> None:
    naive = NaiveWalk(chains)
    naive.enter("BASE")
    (state,) = Traversal(chains.__getitem__, None).outcomes(chains["BASE"], PROBE)
    assert state.tested == naive.tested
    assert state.mark == naive.mark
    assert state.verdict == naive.verdict
    assert state.operations.get("iptables_match", 0) == naive.runs


def balancing_chain(endpoints: int) -> Chain:
    """The rules by which kube-proxy spreads connections: nested probabilities."""
    rules = []
    for number in range(endpoints):
        left = endpoints - number
        chance = (Statistic.of(1 / left),) if left > 1 else ()
        rules.append(Rule(DestinationNat(f"10.1.0.{number}", 80), matches=chance))
    return Chain("BASE", rules)


@pytest.mark.parametrize("endpoints", [1, 2, 3, 7, 100])
def test_nested_probabilities_are_uniform(endpoints: int) -> None:
    outcomes = Traversal(NO_CHAINS.__getitem__, None).outcomes(balancing_chain(endpoints), PROBE)
    assert [state.verdict for state in outcomes] == [DestinationNat(f"10.1.0.{n}", 80) for n in range(endpoints)]
    assert [state.tested for state in outcomes] == list(range(1, endpoints + 1))
    assert sum(state.probability for state in outcomes) == pytest.approx(1)
    for state in outcomes:
        # The kernel keeps 31 bits of each probability: the error of the last share is that of the product before it.
        assert state.probability == pytest.approx(1 / endpoints, rel=endpoints * 2.0**-28)


@given(endpoints=st.integers(1, 40), number=st.floats(0, 1, exclude_max=True))
def test_one_random_number_chooses_as_all_ways_say(endpoints: int, number: float) -> None:
    chain = balancing_chain(endpoints)
    ways = Traversal(NO_CHAINS.__getitem__, None).outcomes(chain, PROBE)
    chance = Chance(number)
    (chosen,) = Traversal(NO_CHAINS.__getitem__, chance).outcomes(chain, PROBE)
    assert chance.low <= number < chance.high
    match = next(way for way in ways if way.verdict == chosen.verdict)
    assert chance.high - chance.low == pytest.approx(match.probability, abs=1e-12)
    for inside in (chance.low, (chance.low + chance.high) / 2):
        (again,) = Traversal(NO_CHAINS.__getitem__, Chance(inside)).outcomes(chain, PROBE)
        assert again.verdict == chosen.verdict


def test_a_random_map_takes_each_way_alike() -> None:
    ways = tuple(DestinationNat(f"10.1.0.{n}", 80) for n in range(5))
    chain = Chain("BASE", [Rule(Random(ways))])
    outcomes = Traversal(NO_CHAINS.__getitem__, None).outcomes(chain, PROBE)
    assert tuple(state.verdict for state in outcomes) == ways
    assert [state.tested for state in outcomes] == [1] * 5
    assert [state.probability for state in outcomes] == [pytest.approx(0.2)] * 5


def test_a_device_pattern_may_end_in_plus() -> None:
    assert Header(in_device="eth+").accepts(PROBE)
    assert not Header(in_device="eth+", not_in_device=True).accepts(PROBE)
    assert not Header(in_device="cali+").accepts(PROBE)
    assert not Header(out_device="eth+").accepts(PROBE)
