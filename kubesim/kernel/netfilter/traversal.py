"""The walk of a packet through chains: which rules are tested, which matches run, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from kubesim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kubesim.kernel.netfilter.chain import Chain
    from kubesim.kernel.netfilter.rule import Probe, Rule
    from kubesim.kernel.netfilter.targets import Target
    from kubesim.kernel.walk import Chance


MOST_WAYS = 20_000
"""Ways of one packet through chains that are followed; kube-proxy's chains have one for each endpoint."""


@dataclass(slots=True)
class State:
    """Where a packet is in the chains, and what it has paid so far.

    Parameters
    ----------
    chain, position
        The rule to be tested next.
    mark
        The packet's mark.
    tested
        Rules tested.
    operations
        How often each match extension or lookup ran.
    probability
        Of the random choices made so far.
    callers
        Chains and positions to go back to.
    noted_in
        Lists of recent clients that the source is to be noted in.
    rule
        The rule that matched last.
    verdict
        The target that ended the walk, None if it ran off the end of the base chain.
    next_target
        What to do before the next rule is tested.
    """

    chain: Chain
    mark: int
    position: int = 0
    tested: int = 0
    operations: dict[str, int] = field(default_factory=dict)
    probability: float = 1.0
    callers: tuple[tuple[Chain, int], ...] = ()
    noted_in: tuple[str, ...] = ()
    rule: Rule | None = None
    verdict: Target | None = None
    next_target: Target | None = None

    def count(self, operation: str) -> None:
        """Pay for one run of an operation."""
        self.operations[operation] = self.operations.get(operation, 0) + 1

    def enter(self, chain: Chain) -> None:
        """Jump to a chain."""
        self.callers = (*self.callers, (self.chain, self.position))
        self.chain, self.position = chain, 0

    def replace_chain(self, chain: Chain) -> None:
        """Go to a chain without coming back here."""
        self.chain, self.position = chain, 0

    def leave_chain(self) -> bool:
        """Go back to the caller; whether there is none, so that the policy decides."""
        if not self.callers:
            return True
        *callers, (self.chain, self.position) = self.callers
        self.callers = tuple(callers)
        return False

    def fork(self) -> State:
        """A copy that goes its own way."""
        return replace(self, operations=dict(self.operations))


class Traversal:
    """Takes a packet through chains.

    Parameters
    ----------
    chain
        Finds a chain by name.
    chance
        The flow's random number, for one outcome; None to follow every possible way.
    """

    def __init__(self, chain: Callable[[str], Chain], chance: Chance | None) -> None:
        self.chain = chain
        self._chance = chance
        self._open: list[State] = []

    def outcomes(self, start: Chain, probe: Probe) -> list[State]:
        """Follow the packet from a base chain: one final state for each way it can go, in rule order."""
        self._open = [State(start, probe.packet.mark)]
        ended = []
        while self._open:
            state = self._open.pop()
            self._follow(state, probe)
            ended.append(state)
            if len(ended) + len(self._open) > MOST_WAYS:
                raise InputError(f"a packet has more than {MOST_WAYS:,} ways through the chains behind {start.name}")
        return ended

    def choose(self, ways: Sequence[Target], state: State, probe: Probe) -> bool:
        """Go one of equally likely ways now, and the others later when all are followed."""
        if self._chance is not None:
            return ways[self._chance.pick(len(ways))].act(state, probe, self)
        state.probability /= len(ways)
        for way in reversed(ways[1:]):
            other = state.fork()
            other.next_target = way
            self._open.append(other)
        return ways[0].act(state, probe, self)

    def _follow(self, state: State, probe: Probe) -> None:
        target, state.next_target = state.next_target, None
        while target is None or not target.act(state, probe, self):
            rule = self._next_match(state, probe)
            if rule is not None:
                state.rule, target = rule, rule.target
            elif state.leave_chain():
                return
            else:
                target = None

    def _next_match(self, state: State, probe: Probe) -> Rule | None:
        """Test rules until one matches; None at the end of the chain."""
        for position in state.chain.candidates(probe.packet.destination, state.position):
            state.tested += position + 1 - state.position
            state.position = position + 1
            rule = state.chain.rule(position)
            if rule.header.accepts(probe) and self._all_match(rule, state, probe):
                return rule
        state.tested += len(state.chain) - state.position
        state.position = len(state.chain)
        return None

    def _all_match(self, rule: Rule, state: State, probe: Probe) -> bool:
        """Run the rule's matches from left to right until one fails."""
        for match in rule.matches:
            if match.operation:
                state.count(match.operation)
            probability = match.probability(probe, state)
            if probability <= 0.0:
                return False
            if probability < 1.0 and not self._happens(probability, state):
                return False
        return True

    def _happens(self, probability: float, state: State) -> bool:
        """Let chance decide, or follow the match now and its failure later."""
        if self._chance is not None:
            return self._chance.happens(probability)
        otherwise = state.fork()
        otherwise.probability *= 1 - probability
        self._open.append(otherwise)
        state.probability *= probability
        return True
