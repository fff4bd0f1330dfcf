"""All rules of iptables on a host: read from what iptables-save prints or iptables-restore takes, and printed again."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeGuard

from kubesim.errors import InputError, did_you_mean
from kubesim.kernel.netfilter.chain import Chain
from kubesim.kernel.netfilter.iptables import HOOKS, LEGACY, Backend, Table
from kubesim.kernel.netfilter.match_syntax import LIMITS
from kubesim.kernel.netfilter.matches import Always, InSet, UnknownMatch
from kubesim.kernel.netfilter.option import RuleSyntaxError, numbered_lines
from kubesim.kernel.netfilter.syntax import parse_rule
from kubesim.kernel.netfilter.targets import DestinationNat, Goto, Jump, PassOn, Redirect

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.netfilter.rule import Match, Rule

_SAVE_ORDER = ("raw", "mangle", "nat", "filter", "security")
_POLICIES = ("ACCEPT", "DROP", "-")


class RuleSet:
    """Tables, their chains and rules.

    Parameters
    ----------
    is_ipv6
        Whether they are those of ip6tables.
    """

    def __init__(self, *, is_ipv6: bool = False) -> None:
        self.is_ipv6 = is_ipv6
        self.tables: dict[str, dict[str, Chain]] = {}

    @classmethod
    def read(cls, text: str, place: str, *, is_ipv6: bool = False) -> RuleSet:
        """Read a dump.

        Parameters
        ----------
        text
            What ``iptables-save`` printed, with counters or without.
        place
            What to call it in messages, such as its path.
        is_ipv6
            Whether it is of ``ip6tables-save``.

        Raises
        ------
        InputError
            If a line is no rule, with its number; if there are no tables, or chains jump in circles.
        """
        found = cls(is_ipv6=is_ipv6)
        found.restore(text, place)
        if not found.tables:
            raise InputError(f"{place}: there are no rules of iptables: no line such as *nat")
        found._settle(place)
        return found

    @classmethod
    def of(cls, namespace: Namespace) -> RuleSet:
        """The rules of a namespace: of every table all chains that packets can come to, made if they are not yet."""
        found = cls()
        for name, table in namespace.tables.items():
            chains = found.table(name)
            waiting = list(chains)
            while waiting:
                chain = table.chain(waiting.pop())
                chains[chain.name] = chain
                waiting += [to for to in _leads_to(chain.rules) if to not in chains]
        return found

    def restore(self, text: str, place: str) -> None:
        """Apply a text as ``iptables-restore --noflush`` does: chains that it names are emptied first.

        Raises
        ------
        InputError
            If a line makes no sense, with its number.
        """
        _Restore(self, place).run(text)

    def table(self, name: str) -> dict[str, Chain]:
        """A table's chains by name; made with its base chains when first asked for.

        Raises
        ------
        RuleSyntaxError
            If there is no such table.
        """
        if name not in self.tables:
            if name not in HOOKS:
                raise RuleSyntaxError(f"there is no table {name!r}: {did_you_mean(name, HOOKS)}")
            self.tables[name] = {str(hook): Chain(hook, policy="ACCEPT") for hook in HOOKS[name]}
        return self.tables[name]

    def rules(self) -> Iterator[tuple[str, str, Rule]]:
        """Every rule, with its table and chain."""
        for table, chains in self.tables.items():
            for name, chain in chains.items():
                for rule in chain.rules:
                    yield table, name, rule

    def save(self) -> str:
        """What ``iptables-save`` prints, without comments and with all counters at zero."""
        lines: list[str] = []
        for table in sorted(self.tables, key=_SAVE_ORDER.index):
            chains = self.tables[table]
            base = [name for name in chains if chains[name].policy is not None]
            names = [*base, *sorted(set(chains) - set(base))]
            lines.append(f"*{table}")
            lines += [f":{name} {chains[name].policy or '-'} [0:0]" for name in names]
            lines += [rule.save(name) for name in names for rule in chains[name].rules]
            lines.append("COMMIT")
        return "\n".join([*lines, ""])

    def unmodelled(self) -> Counter[str]:
        """Names of matches and targets that are not modelled, and how many rules have them."""
        found: Counter[str] = Counter()
        for _, _, rule in self.rules():
            found.update(match.name for match in rule.matches if _is_unmodelled(match))
            if isinstance(rule.target, PassOn) and not rule.target.is_known:
                found[rule.target.name] += 1
        return found

    def ranges(self) -> list[str]:
        """Destinations of which a translation picks one, as they are written."""
        targets = (rule.target for _, _, rule in self.rules())
        return [one.text for one in targets if isinstance(one, DestinationNat | Redirect) and one.is_range]

    def set_names(self) -> set[str]:
        """Names of the IP sets that rules look packets up in."""
        return {match.name for _, _, rule in self.rules() for match in rule.matches if isinstance(match, InSet)}

    def install(self, namespace: Namespace, backend: Backend = LEGACY) -> None:
        """Put the tables into a namespace, in place of those it has.

        Parameters
        ----------
        namespace
            Where.
        backend
            What they run on there.
        """
        for name, chains in self.tables.items():
            table = Table.of(namespace, name)
            table.backend = backend
            table.replace_chains(chains.values())

    def _settle(self, place: str) -> None:
        """Take jumps to what is no chain for targets that are not modelled, and refuse chains that go in circles."""
        for table, chains in self.tables.items():
            for chain in chains.values():
                for rule in chain.rules:
                    if isinstance(rule.target, Jump | Goto) and rule.target.chain not in chains:
                        rule.target = PassOn(rule.target.chain, "", is_known=False)
            circle = _circle(chains)
            if circle:
                raise InputError(f"{place}: chains of table {table} jump in circles: {' > '.join(circle)}")


class _Restore:
    """Applies a text line by line."""

    def __init__(self, rules: RuleSet, place: str) -> None:
        self._rules = rules
        self._place = place
        self._chains: dict[str, Chain] | None = None

    def run(self, text: str) -> None:
        """Apply all lines."""
        for number, line in numbered_lines(text):
            stripped = line.strip()
            if not stripped or stripped.startswith("#"):
                continue
            try:
                self._take(stripped)
            except RuleSyntaxError as error:
                raise InputError(f"{self._place}, line {number}: {error}") from None
        if self._chains is not None:
            raise InputError(f"{self._place}: it ends before COMMIT: a part is missing")

    def _take(self, line: str) -> None:
        if line[0] == "*":
            self._chains = self._rules.table(line[1:].strip())
            return
        if self._chains is None:
            raise RuleSyntaxError(f"{_shortened(line)!r} stands before any table, such as *nat")
        if line == "COMMIT":
            self._chains = None
        elif line[0] == ":":
            self._declare(self._chains, line)
        else:
            self._change(self._chains, line)

    @staticmethod
    def _declare(chains: dict[str, Chain], line: str) -> None:
        """``:CHAIN POLICY [packets:bytes]``."""
        words = line[1:].split()
        if len(words) < 2 or words[1] not in _POLICIES:
            raise RuleSyntaxError(f"{_shortened(line)!r} is no chain: a name and ACCEPT, DROP or - are needed")
        name, policy = words[0], None if words[1] == "-" else words[1]
        is_base = name in chains and chains[name].policy is not None
        if is_base != (policy is not None):
            raise RuleSyntaxError(f"chain {name}: only the chains of hooks have a policy")
        chains[name] = Chain(name, policy=policy)

    def _change(self, chains: dict[str, Chain], line: str) -> None:
        """``-A``, and what else iptables-restore takes."""
        command, _, rest = line.partition(" ")
        chain, _, rule = rest.strip().partition(" ")
        match command:
            case "-N" | "--new-chain":
                chains.setdefault(chain, Chain(chain))
            case "-F" | "--flush":
                chains[chain] = Chain(chain, policy=self._existing(chains, chain).policy)
            case "-X" | "--delete-chain":
                self._existing(chains, chain)
                del chains[chain]
            case "-P" | "--policy" if rule in ("ACCEPT", "DROP"):
                self._existing(chains, chain).policy = rule
            case "-I" | "--insert":
                number, _, behind = rule.partition(" ")
                parsed = self._parsed(f"-A {chain} {behind if number == '1' else rule}")
                self._existing(chains, chain).prepend(parsed)
            case _:
                name, parsed = parse_rule(line, is_ipv6=self._rules.is_ipv6)
                self._existing(chains, name).append(parsed)

    def _parsed(self, line: str) -> Rule:
        return parse_rule(line, is_ipv6=self._rules.is_ipv6).rule

    @staticmethod
    def _existing(chains: dict[str, Chain], name: str) -> Chain:
        if name not in chains:
            raise RuleSyntaxError(f"there is no chain {name!r}: {did_you_mean(name, chains)}")
        return chains[name]


def _is_unmodelled(match: Match) -> TypeGuard[Always | UnknownMatch]:
    return isinstance(match, UnknownMatch) or (isinstance(match, Always) and match.name in LIMITS)


def _shortened(line: str, most: int = 40) -> str:
    return line if len(line) <= most else f"{line[:most]}…"


def _circle(chains: dict[str, Chain]) -> list[str]:
    """Chains that lead back to themselves, empty if none does; the kernel refuses them too (ELOOP)."""
    done: set[str] = set()
    for start in chains:
        path: list[str] = []
        waiting: list[tuple[str, bool]] = [(start, False)]
        while waiting:
            name, is_left = waiting.pop()
            if is_left:
                done.add(path.pop())
            elif name in path:
                return [*path[path.index(name) :], name]
            elif name not in done:
                path.append(name)
                waiting.append((name, True))
                waiting += [(to, False) for to in _leads_to(chains[name].rules)]
    return []


def _leads_to(rules: Iterable[Rule]) -> list[str]:
    targets = dict.fromkeys(rule.target.chain for rule in rules if isinstance(rule.target, Jump | Goto))
    return list(targets)
