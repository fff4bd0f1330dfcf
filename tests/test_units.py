"""Numbers as people read them."""

from __future__ import annotations

import pytest

from kubesim.units import (
    counted,
    format_count,
    format_estimate,
    format_measure,
    format_ns,
    measure_label,
    ns_per_byte,
    unit_of,
)


@pytest.mark.parametrize(
    ("measure", "largest", "unit"),
    [
        ("latency_p50_ns", 999, "ns"), ("latency_p50_ns", 5e3, "µs"), ("latency_p50_ns", 5e7, "ms"), ("x_ns", 5e9, "s"),
        ("cpu_ns_per_transaction", 5e3, "µs"), ("goodput_bit_per_s", 2e10, "Gbit/s"), ("goodput_bit_per_s", 10, "bit/s"),
        ("throughput_per_s", 1e5, "per s"), ("loss_ratio", 1, "%"), ("first_packet_rules", 10, ""),
    ],
)  # fmt: skip
def test_a_measure_has_the_unit_of_its_name(measure: str, largest: float, unit: str) -> None:
    assert unit_of(measure, largest).name == unit


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 ns"), (1, "1 ns"), (999, "999 ns"), (1234, "1.23 µs"), (10_000, "10 µs"), (2.5e9, "2.5 s")],
)
def test_times(value: float, text: str) -> None:
    assert format_ns(value) == text


@pytest.mark.parametrize(
    ("measure", "value", "text"),
    [
        ("x_ns", float("nan"), "-"), ("throughput_per_s", 48_123.4, "48,123 per s"), ("throughput_per_s", 1.5, "1.5 per s"),
        ("loss_ratio", 0.0123, "1.23 %"), ("transactions", 7200.0, "7,200"), ("rules", 42.52, "42.5"),
        ("goodput_bit_per_s", 9.41e9, "9.41 Gbit/s"),
    ],
)  # fmt: skip
def test_measures(measure: str, value: float, text: str) -> None:
    assert format_measure(measure, value) == text


def test_counts_and_line_rates() -> None:
    assert [format_count(value) for value in (0, 5, 999, 48_100, 2e6, 3e9, float("nan"))] == [
        "0", "5", "999", "48.1k", "2M", "3G", "-",
    ]  # fmt: skip
    assert ns_per_byte(10) == 0.8


def test_numbers_of_things() -> None:
    assert [counted(count, "pod") for count in (0, 1, 2000)] == ["0 pods", "1 pod", "2,000 pods"]


@pytest.mark.parametrize(
    ("measure", "value", "half_width", "text"),
    [
        ("x_ns", 12_345.0, 123.0, "12.35 ± 0.12 µs"), ("x_ns", 12_345.0, 2_000.0, "12.3 ± 2.0 µs"),
        ("x_ns", 12_345.0, 0.0, "12.3 ± 0 µs"), ("x_ns", 12_345.0, 1e-9, "12.345 ± 0 µs"),
        ("x_ns", 5.0, float("inf"), "5 ns"), ("x_ns", float("nan"), float("nan"), "-"),
        ("throughput_per_s", 48_123.4, 321.0, "48,123 ± 321 per s"), ("loss_ratio", 0.0, 0.001, "0.00 ± 0.10 %"),
        ("first_packet_rules", 42.0, 1.5, "42.0 ± 1.5"),
    ],
)  # fmt: skip
def test_estimates(measure: str, value: float, half_width: float, text: str) -> None:
    assert format_estimate(measure, value, half_width) == text


def test_a_measure_is_called_what_it_is_without_its_unit() -> None:
    names = ("latency_p999_ns", "goodput_bit_per_s", "cpu_ns_per_transaction", "loss_ratio")
    assert [measure_label(name) for name in names] == ["latency p99.9", "goodput", "CPU time per transaction", "loss"]
