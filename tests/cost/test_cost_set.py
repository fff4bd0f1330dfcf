"""Cost sets: prices, evidence, and files that make no sense."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.cost import DEFAULT_COST_SET, Kind, Number, Operation, cost_set_names, load_cost_set
from kubesim.errors import InputError

STEPS = [
    Number(value=2, kind=Kind.ASSUMED, source="x"),
    Number(value=3, kind=Kind.ASSUMED, source="x", above=10),
    Number(value=5, kind=Kind.ASSUMED, source="x", above=100),
]


def number(value: float) -> Number:
    """A number without evidence."""
    return Number(value=value, kind=Kind.ASSUMED, source="x")


@pytest.mark.parametrize("name", cost_set_names())
def test_every_number_of_a_released_set_has_a_source(name: str) -> None:
    costs = load_cost_set(name)
    assert costs.name == name
    for operation in costs.operations.values():
        assert operation.what
        for _, one in operation.numbers():
            assert one.source.strip()
            assert one.kind is not Kind.GIVEN
            word = one.source.partition(":")[0]
            if one.kind in (Kind.PUBLISHED, Kind.DERIVED) and ":" in one.source and " " not in word:
                assert word in costs.sources, f"{one.source}: which source is that?"
    assert list(costs.operations) == list(dict.fromkeys(costs.operations))


@pytest.mark.parametrize(("items", "price"), [(0, 0), (1, 2), (10, 20), (11, 23), (100, 290), (101, 295), (1000, 4790)])
def test_items_are_priced_step_by_step(items: int, price: float) -> None:
    assert Operation(ns_per_item=STEPS).price_ns(items, 0) == price


@given(items=st.integers(0, 10**6), size=st.integers(0, 10**6))
def test_a_price_is_its_parts(items: int, size: int) -> None:
    operation = Operation(fixed_ns=number(7), ns_per_byte=number(0.5), ns_per_item=[number(3)])
    assert operation.price_ns(items, size) == pytest.approx(7 + 0.5 * size + 3 * items)


def test_long_chains_get_dearer_per_rule() -> None:
    """The published path times at N Services, less that at one: within a tenth, and rising per rule."""
    costs = load_cost_set(DEFAULT_COST_SET)
    seen_us = {"iptables_rule": (9.6, 14.3, 34.3, 61.1), "iptables_nft_rule": (11.6, 29.6, 99.3, 185.0)}
    for operation, (one, *others) in seen_us.items():
        for services, path_us in zip((1000, 5000, 10_000), others, strict=True):
            predicted_us = one + costs.price_ns(operation, services - 1) / 1000
            assert predicted_us == pytest.approx(path_us, rel=0.03), (operation, services)
    marginal = [costs.price_ns("iptables_rule", n + 1000) - costs.price_ns("iptables_rule", n) for n in (0, 2000, 9000)]
    assert marginal == sorted(marginal)
    assert marginal[0] < marginal[-1]


def test_evidence_has_an_order() -> None:
    assert [kind.value for kind in sorted(Kind, key=lambda kind: kind.strength)] == [
        "assumed", "derived", "published", "measured", "given",
    ]  # fmt: skip


def test_a_set_can_extend_another(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"extends: {DEFAULT_COST_SET}\n"
        "operations:\n"
        "  veth_transmit: {what: x, fixed_ns: {value: 1, kind: measured, source: mine}}\n"
        "  teleport: {what: y, fixed_ns: {value: 2, kind: assumed, source: mine}}\n"
    )
    costs, base = load_cost_set(str(file)), load_cost_set(DEFAULT_COST_SET)
    assert costs.name == "mine"
    assert costs.price_ns("veth_transmit") == 1
    assert costs.price_ns("teleport") == 2
    assert costs.price_ns("backlog") == base.price_ns("backlog")
    assert costs.default_spread == base.default_spread
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "yours.yaml").write_text("extends: ../mine.yaml\n")
    yours = load_cost_set(str(tmp_path / "deeper" / "yours.yaml"))
    assert yours.name == "yours"
    assert yours.price_ns("teleport") == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1", "line 2, column 1"),
        ("- a\n", "a cost set is a mapping"),
        ("extends: me.yaml\n", "extends itself"),
        (
            f"extends: {DEFAULT_COST_SET}\noperations: {{x: {{fixed_ns: {{value: -1, kind: assumed, source: s}}}}}}",
            "line 2",
        ),
        (
            f"extends: {DEFAULT_COST_SET}\noperations: {{x: {{fixed_ns: {{value: 1, kind: guess, source: s}}}}}}",
            "operations.x.fixed_ns.kind",
        ),
        (
            f"extends: {DEFAULT_COST_SET}\noperations: {{x: {{fixed_ns: {{value: 1, kind: assumed}}}}}}",
            "operations.x.fixed_ns.source",
        ),
        (f"extends: {DEFAULT_COST_SET}\nextra: 1\n", "extra"),
        (f"extends: {DEFAULT_COST_SET}\noperations: [1]\n", "operations"),
        (f"extends: {DEFAULT_COST_SET}\nsources: 1\n", "sources"),
        ("extends: published\n", "there is no cost set 'published': did you mean 'published-x86-server'?"),
    ],
)
def test_files_that_make_no_sense(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "me.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        load_cost_set(str(tmp_path / "me.yaml"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_operation_without_a_price() -> None:
    with pytest.raises(InputError, match="has no price for 'veth_transmitt': did you mean 'veth_transmit'"):
        load_cost_set(DEFAULT_COST_SET).price_ns("veth_transmitt")
