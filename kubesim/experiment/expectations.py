"""The language of expectations: what an experiment, or a search, says of its measures.

``ratio(p99, proxy=iptables, proxy=nftables, services=10000) > 3``
    A measure at one level of a factor over that at another, where other factors have these levels.
``difference(p99, proxy=iptables, proxy=nftables) > 10 us``
    The same, subtracted.
``slope(p50 ~ services, proxy=nftables) within 0 ± 1 ns``
    How much the measure grows for each unit of a factor.
``value(loss, cni=calico-bgp) < 1 %``, or ``loss < 1 %`` where nothing is selected
    The measure itself.
``regression: baseline.parquet within 5 %``, or ``… within 5 % of p99, throughput``
    How far measures may be from those of an earlier sweep.

Comparisons are ``>``, ``>=``, ``<``, ``<=``, ``within X ± Y`` (or ``+-``) and ``within X to Y``. Measures are those of
a run's summary, some with a short name (:data:`kubesim.experiment.measures.SHORT_NAMES`). Factors have their full name
or its end. Levels are written as in tables; those with spaces, brackets or commas stand in quotes. What this module
makes of a text knows neither factors nor results: see :mod:`kubesim.experiment.selection`.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from kubesim.errors import InputError, did_you_mean
from kubesim.experiment.measures import UNITS, Dimension, dimension_of, full_name

if TYPE_CHECKING:
    from lark import Lark, Token, UnexpectedInput

_GRAMMAR = r"""
start: regression | comparison
comparison: quantity condition
regression: "regression" ":" (PATH | QUOTED) "within" amount ["of" NAME ("," NAME)*]

?quantity: value | short | ratio | difference | slope
short: NAME
value: "value" "(" NAME where ")"
ratio: "ratio" "(" NAME "," selector "," selector where ")"
difference: "difference" "(" NAME "," selector "," selector where ")"
slope: "slope" "(" NAME "~" NAME where ")"
where: ("," selector)*
selector: NAME "=" (LEVEL | QUOTED)

?condition: limit | around | between
limit: COMPARISON amount
around: "within" amount PLUS_MINUS amount
between: "within" amount "to" amount
amount: NUMBER [UNIT]

COMPARISON: /<=|>=|[<>≤≥]/
PLUS_MINUS: /±|\+-/
NUMBER: /[+\-−]?(\d[\d_]*(\.\d*)?|\.\d+)([eE][+-]?\d+)?/
UNIT: /per\s+s\b|[^\W\d_][^\s±+(),]*|%|\/s/
NAME: /[^\W\d][\w.\-\/]*/
LEVEL: /[^\s,()"'=<>~±]+/
QUOTED: /"(\\.|[^"\\])*"|'[^']*'/
PATH: /[^\s"']+/
%ignore /\s+/
"""

_WORDS = {
    "COMPARISON": ">, >=, <, <=",
    "NAME": "a measure or factor",
    "LEVEL": "a level",
    "NUMBER": "a number",
    "PATH": "a Parquet file",
    "COMMA": "','",
    "RPAR": "')'",
    "LPAR": "'('",
    "EQUAL": "'='",
    "TILDE": "'~'",
    "COLON": "':'",
    "PLUS_MINUS": "±",
    "TO": "to",
    "WITHIN": "within",
    "UNIT": "a unit",
    "$END": "the end",
}
"""What to call parts of the grammar in messages; those that are missing are named along with others."""

_BARE_LEVEL = re.compile(r"[^\s,()\"'=<>~±]+")
_SYMBOLS = {"≤": "<=", "≥": ">="}
_ALL_UNITS = {unit for units in UNITS.values() for unit in units}
_UNIT_SPELLINGS = {"per s": "/s", "us": "µs", "μs": "µs"}


class Kind(StrEnum):
    """How a quantity is made of a measure."""

    VALUE = "value"
    RATIO = "ratio"
    DIFFERENCE = "difference"
    SLOPE = "slope"


@dataclass(frozen=True)
class Selector:
    """A level of a factor, both as written: the factor may be short, a number is text."""

    factor: str
    level: str

    def __str__(self) -> str:
        return f"{self.factor}={self.level if _BARE_LEVEL.fullmatch(self.level) else _quoted(self.level)}"


@dataclass(frozen=True)
class Quantity:
    """What is expected to be so.

    Parameters
    ----------
    kind
        How it is made of the measure.
    measure
        Its full name.
    sides
        Of a ratio or difference, what is compared: two levels of one factor.
    along
        Of a slope, the factor.
    where
        Levels of other factors.
    """

    kind: Kind
    measure: str
    sides: tuple[Selector, ...] = ()
    along: str | None = None
    where: tuple[Selector, ...] = ()

    def __str__(self) -> str:
        along = "" if self.along is None else f" ~ {self.along}"
        return f"{self.kind}({', '.join([self.measure + along, *map(str, (*self.sides, *self.where))])})"

    @property
    def dimension(self) -> Dimension:
        """What kind of number it is."""
        return Dimension.RATIO if self.kind is Kind.RATIO else dimension_of(self.measure)


@dataclass(frozen=True)
class Amount:
    """A number and its unit, as written."""

    number: float
    unit: str = ""

    def __str__(self) -> str:
        number = str(int(self.number)) if self.number.is_integer() and abs(self.number) < 1e15 else repr(self.number)
        return f"{number} {self.unit}".rstrip()

    def in_base_unit(self, dimension: Dimension, what: str) -> float:
        """The number in the unit that the measure's name ends with.

        Raises
        ------
        InputError
            If the unit is of something else.
        """
        units = UNITS[dimension]
        if self.unit in units or not (self.unit or self.number):
            return self.number * units.get(self.unit, 1.0)
        known = [unit for unit in units if unit]
        if not self.unit:
            raise InputError(f"at '{self}': {what}, {dimension}, needs a unit: {', '.join(known)}")
        if self.unit in _ALL_UNITS:
            kind = f"{what}, {dimension}" if what else dimension
            raise InputError(f"at '{self}': {self.unit} is no unit of {kind}: {', '.join(known) or 'it has none'}")
        raise InputError(f"at '{self}': there is no unit {self.unit!r}: {did_you_mean(self.unit, known)}")


@dataclass(frozen=True)
class Bounds:
    """Between what a quantity is expected to be, in the unit of its measure."""

    low: float
    high: float
    has_ends: bool = True

    def holds(self, low: float, high: float) -> bool:
        """Whether all of an interval is within; an open end of it is, where there is no limit at that side."""
        if self.has_ends:
            return self.low <= low and high <= self.high
        return (self.low < low or math.isinf(self.low)) and (high < self.high or math.isinf(self.high))

    def misses(self, low: float, high: float) -> bool:
        """Whether none of an interval is within."""
        if self.has_ends:
            return high < self.low or low > self.high
        return high <= self.low or low >= self.high

    def margin(self, value: float) -> float:
        """How far a value is within; negative without."""
        return min(value - self.low, self.high - value)


@dataclass(frozen=True)
class Condition:
    """A comparison with one amount, or with two: ``±`` around the first, or ``to`` the second."""

    comparison: str
    first: Amount
    second: Amount | None = None

    def __str__(self) -> str:
        if self.second is None:
            return f"{self.comparison} {self.first}"
        return f"within {self.first} {self.comparison} {self.second}"

    def bounds(self, dimension: Dimension, what: str) -> Bounds:
        """Between what the quantity has to be; of two amounts a unit may stand behind one for both.

        Raises
        ------
        InputError
            If a unit is of something else than the quantity, or nothing can be between the amounts.
        """
        if self.second is None:
            limit = self.first.in_base_unit(dimension, what)
            is_lower = self.comparison.startswith(">")
            ends = (limit, float("inf")) if is_lower else (float("-inf"), limit)
            return Bounds(*ends, has_ends=self.comparison.endswith("="))
        one, other = (amount.in_base_unit(dimension, what) for amount in self._with_units(dimension))
        bounds = Bounds(one - other, one + other) if self.comparison == "±" else Bounds(one, other)
        if bounds.low > bounds.high:
            raise InputError(f"at '{self}': nothing is within, since {bounds.low:g} is more than {bounds.high:g}")
        return bounds

    def _with_units(self, dimension: Dimension) -> tuple[Amount, Amount]:
        """Both amounts; a unit behind one of them is that of both, but a ratio within 1 ± 5 % is within 1 ± 0.05."""
        first, second = self.first, self.second or self.first
        is_own = dimension is Dimension.RATIO and self.comparison == "±"
        return (
            first if is_own else Amount(first.number, first.unit or second.unit),
            Amount(second.number, second.unit or first.unit),
        )


@dataclass(frozen=True)
class Expectation:
    """A quantity and what is expected of it."""

    quantity: Quantity
    condition: Condition

    def __str__(self) -> str:
        return f"{self.quantity} {self.condition}"

    @property
    def bounds(self) -> Bounds:
        """Between what the quantity has to be, in the unit of its measure."""
        what = "" if self.quantity.kind is Kind.RATIO else self.quantity.measure
        return self.condition.bounds(self.quantity.dimension, what)


@dataclass(frozen=True)
class Regression:
    """How far measures may be from those of an earlier sweep.

    Parameters
    ----------
    baseline
        Its ``runs.parquet``, as written.
    within
        A share.
    measures
        Full names; those that the experiment shows if there are none.
    """

    baseline: str
    within: Amount
    measures: tuple[str, ...] = ()

    def __str__(self) -> str:
        is_plain = re.fullmatch(r"[^\s\"']+", self.baseline)
        file = self.baseline if is_plain else _quoted(self.baseline)
        measures = f" of {', '.join(self.measures)}" if self.measures else ""
        return f"regression: {file} within {self.within}{measures}"

    @property
    def bounds(self) -> Bounds:
        """Between what the ratio of new to old has to be."""
        share = self.within.in_base_unit(Dimension.RATIO, "")
        if share < 0:
            raise InputError(f"at '{self.within}': nothing is within less than nothing")
        return Bounds(1 - share, 1 + share)


def parse_expectation(written: str | dict[str, Any]) -> Expectation | Regression:
    """Read one expectation.

    Parameters
    ----------
    written
        A text, or what YAML makes of ``regression: …``: a mapping with a text, or with ``baseline``, ``within`` and
        ``measures``.

    Raises
    ------
    InputError
        If it is not in the language, names no measure, or gives a unit of something else.
    """
    made = _model(_parse(_as_text(written)))
    _ = made.bounds  # units that do not fit are refused here
    return made


def _as_text(written: str | dict[str, Any]) -> str:
    """A regression that is written as a mapping, in words."""
    if isinstance(written, str):
        return written
    inner = written.get("regression")
    if set(written) != {"regression"} or not isinstance(inner, str | dict):
        other = next((key for key in written if key != "regression"), "regression")
        raise InputError(
            f"an expectation is a text, or regression with a file, not {other!r}: quote it if it is a text"
        )
    if isinstance(inner, str):
        return f"regression: {inner}"
    for key in inner:
        if key not in ("baseline", "within", "measures"):
            raise InputError(f"at {key!r}: {did_you_mean(str(key), ('baseline', 'within', 'measures'))}")
    for key in ("baseline", "within"):
        if key not in inner:
            raise InputError(f"regression: {key} is needed")
    measures = inner.get("measures", [])
    if not isinstance(measures, list):
        raise InputError("regression: measures is a list")
    chosen = f" of {', '.join(map(str, measures))}" if measures else ""
    return f"regression: {_quoted(str(inner['baseline']))} within {inner['within']}{chosen}"


@functools.cache
def _parser() -> Lark:
    from lark import Lark  # noqa: PLC0415 - nobody waits for it who expects nothing

    return Lark(_GRAMMAR, parser="lalr")


def _parse(text: str) -> Any:
    """The tree of an expectation."""
    from lark.exceptions import UnexpectedCharacters, UnexpectedInput  # noqa: PLC0415

    try:
        return _parser().parse(text)
    except UnexpectedInput as error:
        raise InputError(_problem(text, error, is_character=isinstance(error, UnexpectedCharacters))) from None


def _problem(text: str, error: UnexpectedInput, *, is_character: bool) -> str:
    """Where a text leaves the language, and what could stand there."""
    wanted = getattr(error, "allowed" if is_character else "accepts", None) or set()
    is_over = getattr(getattr(error, "token", None), "type", "") == "$END"
    before, rest = (text, "") if is_over else (text[: error.pos_in_stream], text[error.pos_in_stream :].strip())
    if rest.startswith("(") and before.strip().isidentifier():
        name = before.strip()
        return f"at {name!r}: there is no such function: {did_you_mean(name, [kind.value for kind in Kind])}"
    found = re.match(r"[\w.\-/]+|\S", rest)
    place = f"at {found.group()!r}" if found else "at its end"
    known = [words for name, words in _WORDS.items() if name in wanted]
    return f"{place}: {' or '.join(known) or 'something else'} is needed"


def _model(tree: Any) -> Expectation | Regression:
    """What a tree says."""
    (inner,) = tree.children
    if inner.data == "regression":
        file, within, *measures = inner.children
        names = tuple(full_name(str(name)) for name in measures if name is not None)
        return Regression(_unquoted(file), _amount(within), names)
    quantity, condition = inner.children
    return Expectation(_quantity(quantity), _condition(condition))


def _quantity(tree: Any) -> Quantity:
    if tree.data == "short":
        return Quantity(Kind.VALUE, full_name(str(tree.children[0])))
    kind, (name, *parts) = Kind(tree.data), tree.children
    where = tuple(_selector(one) for one in parts[-1].children)
    measure = full_name(str(name))
    along = str(parts[0]) if kind is Kind.SLOPE else None
    sides = () if kind is Kind.SLOPE else tuple(_selector(one) for one in parts[:-1])
    return Quantity(kind, measure, sides, along, where)


def _selector(tree: Any) -> Selector:
    factor, level = tree.children
    return Selector(str(factor), _unquoted(level))


def _condition(tree: Any) -> Condition:
    if tree.data == "limit":
        comparison, amount = tree.children
        return Condition(_SYMBOLS.get(str(comparison), str(comparison)), _amount(amount))
    first, second = (_amount(one) for one in tree.children if hasattr(one, "data"))
    return Condition("±" if tree.data == "around" else "to", first, second)


def _amount(tree: Any) -> Amount:
    number, unit = tree.children
    value = float(str(number).replace("−", "-"))
    if not math.isfinite(value):
        raise InputError(f"at '{number}': the number is too large")
    spelt = "" if unit is None else " ".join(str(unit).split())
    return Amount(value, _UNIT_SPELLINGS.get(spelt, spelt))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _unquoted(token: Token) -> str:
    """A level or file without the quotes it may stand in."""
    text = str(token)
    if token.type != "QUOTED":
        return text
    return text[1:-1] if text.startswith("'") else re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
