"""The language of expectations: what is understood, what is refused and how."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.errors import InputError
from kubesim.experiment.expectations import (
    Amount,
    Bounds,
    Condition,
    Expectation,
    Kind,
    Quantity,
    Regression,
    Selector,
    parse_expectation,
)
from kubesim.experiment.measures import MEASURES, SHORT_NAMES, UNITS, Dimension, dimension_of

FACTORS = st.from_regex(r"[a-z][a-z_0-9]*(\.[a-z][a-z_0-9]*){0,2}", fullmatch=True)
LEVELS = st.one_of(st.integers(-10, 10**6).map(str), st.text(min_size=0, max_size=12))
SELECTORS = st.builds(Selector, FACTORS, LEVELS)
NUMBERS = st.one_of(st.integers(-(10**9), 10**9).map(float), st.floats(-1e12, 1e12))


@st.composite
def expectations(draw: st.DrawFn) -> Expectation:
    """Any expectation that makes sense by itself."""
    kind, measure = draw(st.sampled_from(Kind)), draw(st.sampled_from(MEASURES))
    sides = tuple(draw(st.lists(SELECTORS, min_size=2, max_size=2))) if kind in (Kind.RATIO, Kind.DIFFERENCE) else ()
    along = draw(FACTORS) if kind is Kind.SLOPE else None
    quantity = Quantity(kind, measure, sides, along, tuple(draw(st.lists(SELECTORS, max_size=3))))
    unit = st.sampled_from([name for name in UNITS[quantity.dimension] if name != "us"])
    comparison = draw(st.sampled_from([">", ">=", "<", "<=", "±", "to"]))
    if comparison == "±":
        second = Amount(draw(st.floats(0, 1e12)), draw(unit))
        return Expectation(quantity, Condition("±", Amount(draw(NUMBERS), draw(unit)), second))
    if comparison == "to":
        low, high = sorted([draw(NUMBERS), draw(NUMBERS)])
        one = draw(unit)
        return Expectation(quantity, Condition("to", Amount(low, one), Amount(high, one)))
    return Expectation(quantity, Condition(comparison, Amount(draw(NUMBERS), draw(unit))))


@given(expectations())
def test_what_is_written_is_read_back(expectation: Expectation) -> None:
    found = parse_expectation(str(expectation))
    assert found == expectation
    assert str(found) == str(expectation)


@given(
    st.text(min_size=1),
    st.integers(0, 100),
    st.lists(st.sampled_from(MEASURES), unique=True, max_size=4),
)
def test_regressions_are_read_back_from_text_and_from_mappings(file: str, within: int, measures: list[str]) -> None:
    regression = Regression(file, Amount(float(within), "%"), tuple(measures))
    assert parse_expectation(str(regression)) == regression
    written = {"regression": {"baseline": file, "within": f"{within} %", "measures": measures}}
    assert parse_expectation(written) == regression
    assert parse_expectation({"regression": str(regression).removeprefix("regression: ")}) == regression


@given(st.text(alphabet="value(ratio,p99=<>± to within\"'1k%~:./smu)", max_size=30) | st.text(max_size=30))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        parse_expectation(text)
    except InputError as error:
        assert "\n" not in str(error).replace(text, "")
        assert str(error)


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_short_names_are_of_measures(name: str) -> None:
    assert SHORT_NAMES[name] in MEASURES
    limit = {Dimension.TIME: "1 s", Dimension.BIT_RATE: "1 bit/s"}.get(dimension_of(SHORT_NAMES[name]), "1")
    short = parse_expectation(f"{name} < {limit}")
    assert short == parse_expectation(f"value({SHORT_NAMES[name]}) < {limit}")


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("p99 < 1 ms", -float("inf"), 1e6),
        ("p99 >= 1.5us", 1500, float("inf")),
        ("p99 > 2 μs", 2000, float("inf")),
        ("p50 within 0 ± 1 ns", -1, 1),
        ("p50 within 5 us +- 200 ns", 4800, 5200),
        ("p50 within 1 to 2 ms", 1e6, 2e6),
        ("p50 within 1 ms to 2", 1e6, 2e6),
        ("p50 ≥ −1 s", -1e9, float("inf")),
        ("loss < 1 %", -float("inf"), 0.01),
        ("loss within 5 to 10 %", 0.05, 0.1),
        ("loss < 0.5", -float("inf"), 0.5),
        ("goodput > 9.3 Gbit/s", 9.3e9, float("inf")),
        ("throughput within 70 to 90 k/s", 70_000, 90_000),
        ("throughput > 100 per s", 100, float("inf")),
        ("first_packet_rules > 1.5k", 1500, float("inf")),
        ("cpu_s_per_gbit > 1_000", 1000, float("inf")),
        ("ratio(p50, a=1, a=2) within 1 ± 5 %", 0.95, 1.05),
        ("ratio(p50, a=1, a=2) within 95 to 105 %", 0.95, 1.05),
        ("ratio(p50, a=1, a=2) < 50 %", -float("inf"), 0.5),
        ("p50 > 0", 0, float("inf")),
        ("regression: b.parquet within 5 %", 0.95, 1.05),
    ],
)
def test_amounts_in_the_units_of_their_measures(text: str, low: float, high: float) -> None:
    bounds = parse_expectation(text).bounds
    assert bounds.low == pytest.approx(low)
    assert bounds.high == pytest.approx(high)


@given(st.floats(-10, 10), st.floats(0, 10), st.booleans(), st.floats(-20, 20), st.floats(0, 20))
def test_an_interval_cannot_meet_and_miss(start: float, width: float, ends: bool, low: float, length: float) -> None:
    bounds = Bounds(start, start + width, has_ends=ends)
    assert not (bounds.holds(low, low + length) and bounds.misses(low, low + length))
    inside = bounds.holds(low, low)
    assert inside == (not bounds.misses(low, low)), "a point does one or the other"


def test_limits_are_in_or_out_as_written() -> None:
    assert parse_expectation("loss <= 0").bounds.holds(0, 0)
    assert parse_expectation("loss < 0").bounds.misses(0, 0)
    assert parse_expectation("loss > 0").bounds.misses(-1, 0)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("p98 < 1 ms", "'p98' is no measure: did you mean 'p99'?"),
        ("value(latency_p99) < 1 ms", "did you mean 'latency_p99_ns'?"),
        ("p99 < 1", "at '1': latency_p99_ns, a time, needs a unit: ns, us, µs, ms, s"),
        ("p99 < 1 %", "at '1 %': % is no unit of latency_p99_ns, a time: ns,"),
        ("goodput < 1 ms", "at '1 ms': ms is no unit of goodput_bit_per_s, a rate of bits: bit/s,"),
        ("loss < 1 ms", "at '1 ms': ms is no unit of loss_ratio, a share: %"),
        ("loss < 0 ms", "at '0 ms': ms is no unit of loss_ratio"),
        ("ratio(p99, a=b, a=c) > 3 ns", "at '3 ns': ns is no unit of a ratio: %"),
        ("p99 < 1 mss", "at '1 mss': there is no unit 'mss': did you mean 'ms'?"),
        ("first_packet_rules < 1 Gbit/s", "Gbit/s is no unit of first_packet_rules, a number: k, M, G"),
        ("p99 = 3 ms", "at '=': >, >=, <, <= or within is needed"),
        ("p99 3 ms", "at '3': >, >=, <, <= or within is needed"),
        ("p99", "at its end: >, >=, <, <= or within is needed"),
        ("p99 >", "at its end: a number is needed"),
        ("p99 > ms", "at 'ms': a number is needed"),
        ("", "at its end: a measure or factor is needed"),
        ("rato(p99, a=b, a=c) > 3", "at 'rato': there is no such function: did you mean 'ratio'?"),
        ("ratio(p99, a=b) > 3", "at ')': ',' is needed"),
        ("ratio(p99, a, b) > 3", "at ',': '=' is needed"),
        ("value(p99, a=b < 3 ns", "at '<': ',' or ')' is needed"),
        ('value(p99, a="b) < 3 ns', "at '\"': a level is needed"),
        ("slope(p50, services) < 1 ns", "at ',': '~' is needed"),
        ("p99 > 1 ms 3", "at '3': the end is needed"),
        ("p50 within 1 ms", "at its end: ± or to is needed"),
        ("p50 within 2 ms to 1 ms", "nothing is within, since 2e+06 is more than 1e+06"),
        ("p50 within 2 ms ± -1 ms", "nothing is within"),
        ("p50 < 1e999 ms", "at '1e999': the number is too large"),
        ("regression: x within 5 ns", "at '5 ns': ns is no unit of a ratio: %"),
        ("regression: x within -5 %", "nothing is within less than nothing"),
        ("regression: x within 5 % of p98", "'p98' is no measure"),
        ("regression: within 5 %", "at '5': within is needed"),
        ({"ratio": "x"}, "an expectation is a text, or regression with a file, not 'ratio'"),
        ({"regression": 5}, "an expectation is a text, or regression with a file"),
        ({"regression": {"baseline": "x", "withn": "5 %"}}, "at 'withn': did you mean 'within'?"),
        ({"regression": {"baseline": "x"}}, "regression: within is needed"),
        ({"regression": {"within": "5 %"}}, "regression: baseline is needed"),
        ({"regression": {"baseline": "x", "within": "5 %", "measures": "p99"}}, "regression: measures is a list"),
    ],
)
def test_what_makes_no_sense_is_refused(written: str | dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_expectation(written)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
