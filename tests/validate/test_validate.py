"""Published measurements: complete records, honest verdicts, the same outcome each time."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kubesim.cli.commands import app
from kubesim.cost import DEFAULT_COST_SET, load_cost_set
from kubesim.errors import InputError
from kubesim.files import YamlDocument
from kubesim.report import draw_directory
from kubesim.validate import Published, Target, compare, load_published, save_validation
from kubesim.validate.bench import Bench
from kubesim.validate.predictor import UNITS
from kubesim.validate.router import Router
from kubesim.validation import validate

PUBLISHED = load_published()
FEW = ["rules-nat-1x1", "cilium-rr-1-node", "xdp-forward-full", "linux-legacy-100", "restore-10000", "restore-50000"]
OWN_MEASUREMENTS = {"linux"}


def only(*ids: str, **changes: Any) -> Published:
    """The published measurements with some targets only; changes are to the first of them."""
    targets = [one for name in ids for one in PUBLISHED.targets if one.id == name]
    targets[0] = targets[0].model_copy(update=changes)
    kept = {name: one for name, one in PUBLISHED.machines.items() if set(one.fitted_on) <= set(ids)}
    return PUBLISHED.model_copy(update={"targets": targets, "machines": kept})


@pytest.mark.parametrize("target", PUBLISHED.targets, ids=lambda target: target.id)
def test_every_record_says_what_it_rests_on(target: Target) -> None:
    source = PUBLISHED.sources[target.source]
    assert source.citation
    assert source.trust in ("A", "B", "C")
    assert source.url is not None or target.source in OWN_MEASUREMENTS
    assert target.unit in UNITS
    assert target.predict.how


def test_all_sources_and_machines_are_used() -> None:
    assert {one.source for one in PUBLISHED.targets} == set(PUBLISHED.sources)
    assert {one.machine for one in PUBLISHED.targets} == set(PUBLISHED.machines)


def test_what_cannot_be_predicted_is_named() -> None:
    names = " ".join(one.what for one in PUBLISHED.not_modelled)
    for missing in ("IPIP", "UDP back end", "userspace", "encryption"):
        assert missing in names


def test_counts_and_line_rates_are_met() -> None:
    sure = [one.id for one in PUBLISHED.targets if one.id.startswith(("rules-", "line-"))]
    found = compare(published=only(*sure))
    assert [one.target.id for one in found.comparisons if not one.is_met] == []
    assert {one.role for one in found.comparisons} == {"predicted"}


def test_the_same_each_time() -> None:
    assert compare(published=only(*FEW)).to_dict() == compare(published=only(*FEW)).to_dict()


def test_a_missed_target_is_missed() -> None:
    found = compare(published=only("rules-nat-1x1", value=11.0))
    (one,) = found.comparisons
    assert not one.is_met
    assert one.error == pytest.approx(10 / 11 - 1)
    assert found.summary()["predicted"] == {"targets": 1, "met": 0, "median_error": pytest.approx(1 / 11)}
    assert found.summary()["fitted"]["median_error"] is None


def test_a_factor_is_fitted_on_some_targets_and_predicts_others() -> None:
    found = compare(published=only("restore-10000", "restore-5000-0"))
    (fit,) = (one for one in found.fits if one.machine == "rosenhouse")
    fitted, predicted = found.comparisons
    assert (fitted.role, predicted.role) == ("fitted", "predicted")
    assert abs(fitted.error) < 0.002
    assert fit.why == "fitted on restore-10000"
    assert fit.slowness > 1


def test_what_no_factor_fits_is_refused() -> None:
    with pytest.raises(InputError, match="no factor between"):
        compare(published=only("restore-10000", value=1e6))


def test_what_is_in_the_costs_is_fitted_with_these_costs_only(tmp_path: Path) -> None:
    records = only("linux-legacy-1")
    assert compare(published=records).comparisons[0].role == "fitted"
    own = tmp_path / "own.yaml"
    own.write_text(json.dumps({**load_cost_set(DEFAULT_COST_SET).model_dump(mode="json"), "name": "own"}))
    assert compare(str(own), records).comparisons[0].role == "predicted"
    own.write_text(f"extends: {DEFAULT_COST_SET}\n")
    assert compare(str(own), records).comparisons[0].role == "fitted"


def test_slowness_is_of_all_costs(tmp_path: Path) -> None:
    costs = load_cost_set(DEFAULT_COST_SET)
    once, twice = (Router(by="router").predict(Bench(costs, slowness, {}, tmp_path)) for slowness in (1.0, 2.0))
    assert math.isclose(twice, 2 * once, rel_tol=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"machine": "nowhere"}, "rules-nat-0: there is no 'nowhere'"),
        ({"source": "cilum"}, "did you mean 'cilium'"),
        ({"unit": "furlongs"}, "there is no unit 'furlongs'"),
        ({"predict": {"by": "guessing"}}, "there is no 'guessing'"),
    ],
)
def test_records_that_make_no_sense(change: dict[str, Any], message: str) -> None:
    data = PUBLISHED.model_dump(mode="json")
    data["targets"][0] |= change
    with pytest.raises(InputError, match=message):
        validate(Published, YamlDocument("published", data, None))


def test_figures_are_drawn_from_the_data_alone(tmp_path: Path) -> None:
    found = compare(published=only(*FEW))
    drawn = []
    for name in ("one", "two"):
        save_validation(found, tmp_path / name)
        drawn.append([file.read_bytes() for file in draw_directory(tmp_path / name)])
    assert drawn[0] == drawn[1]
    names = {file.name for file in (tmp_path / "one" / "figures").iterdir()}
    assert names == {f"{stem}.{end}" for stem in ("errors", "predicted-against-measured") for end in ("png", "svg")}


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubesim.validate.comparison.load_published", lambda: only(*FEW))
    told = CliRunner().invoke(app, ["validate", "--out", str(tmp_path / "out")])
    assert told.exit_code == 0
    assert "missed" in told.output
    assert "xdp-forward-full" in told.output
    assert "not modelled yet" in told.output
    for one in PUBLISHED.not_modelled:
        assert one.what.split(":")[0] in told.output
    given = CliRunner().invoke(app, ["validate", "--json"])
    found = json.loads(given.output)
    assert set(found) == {"kubesim_version", "cost_set", "summary", "fits", "targets", "not_modelled"}
    assert [one["id"] for one in found["targets"]] == FEW
    for one in found["targets"]:
        assert {"measured", "predicted", "error", "is_met", "role", "how", "citation", "url", "trust"} <= set(one)
    assert json.loads((tmp_path / "out" / "validation.json").read_text()) == found


def test_the_readme_says_what_came_out() -> None:
    readme = " ".join((Path(__file__).parents[2] / "README.md").read_text("utf-8").split())
    summary = compare().summary()
    predicted, fitted = summary["predicted"], summary["fitted"]
    assert f"Of the predictions, {predicted['met']} of {predicted['targets']} are within" in readme
    assert f"of the fitted figures, {fitted['met']} of {fitted['targets']}." in readme


def test_an_unknown_cost_set_is_refused() -> None:
    with pytest.raises(InputError, match="there is no cost set 'mine'"):
        compare("mine")
