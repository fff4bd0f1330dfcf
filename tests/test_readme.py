"""The README tells the truth: its examples run, and its lists are complete."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kubesim import cni
from kubesim.cli.commands import app
from kubesim.cni import cni_names
from kubesim.experiment import load_experiment
from kubesim.files import parse_yaml
from kubesim.proxy import proxy_names
from kubesim.scenario import run
from kubesim.scenario.spec import scenario_from
from kubesim.workload import workload_names
from tests.clusters import converse, deploy, sized_cluster
from tests.netns import require
from tests.scenarios import PROXIES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", README, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for _, block in found]


def commands() -> Iterator[str]:
    for block in blocks("sh"):
        yield from (line for line in block.splitlines() if line.startswith("kubesim "))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the README's sweep writes, run once for all commands that look at it."""
    directory = tmp_path_factory.mktemp("swept")
    (command,) = (one for one in commands() if one.startswith("kubesim sweep "))
    experiment = ROOT / shlex.split(command)[2]
    outcome = CliRunner().invoke(app, ["sweep", str(experiment), "--out", str(directory / experiment.stem)])
    assert outcome.exception is None, outcome.output
    return directory


@pytest.mark.parametrize("command", list(commands()))
def test_commands_run(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    monkeypatch.chdir(tmp_path)
    command, _, _file = command.partition(" > ")
    words = shlex.split(command)[1:]
    if words[0] in ("sweep", "check", "report"):
        shutil.copytree(request.getfixturevalue("swept"), tmp_path / "results")
    if "--rules" in words:
        dump = words[words.index("--rules") + 1]
        made = next(one for one in commands() if one.endswith(f" > {dump}"))
        Path(dump).write_text(CliRunner().invoke(app, shlex.split(made.partition(" > ")[0])[1:]).stdout)
    outcome = CliRunner().invoke(app, words)
    assert outcome.exception is None, outcome.output
    assert outcome.output


ROOT_S = "sudo .venv/bin/kubesim "


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for network namespaces")
def test_commands_of_root_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("ip", "sysctl", "iptables-legacy-restore", "iptables-nft-restore", "nft")
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    monkeypatch.chdir(tmp_path)
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith(ROOT_S)]
    assert len(lines) == 3
    for line in lines:
        outcome = CliRunner().invoke(app, shlex.split(line.removeprefix(ROOT_S)))
        assert outcome.exception is None, outcome.output


def test_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    block = blocks("python")[0]
    exec(compile(block, "README.md", "exec"), {})  # noqa: S102 - what the README shows
    assert "svc-00042" in capsys.readouterr().out


@pytest.fixture
def ptp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The CNI plugin of the README, put where plugins are found; its name."""
    (tmp_path / "ptp.py").write_text(blocks("python")[1])
    monkeypatch.setattr(cni, "__path__", [*cni.__path__, str(tmp_path)])
    yield "ptp"
    sys.modules.pop("kubesim.cni.ptp", None)


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("place", ["node-1", "node-2"])
def test_the_plugin_shown_is_one(ptp: str, proxy: str, place: str) -> None:
    assert ptp in cni_names()
    assert len(blocks("python")[1].splitlines()) <= 30
    cluster = sized_cluster(endpoint_nodes=[place])
    service, client = cluster.service("svc-2"), cluster.pod("client-1")
    servers = {(one.address, one.port) for one in cluster.endpoints(service, service.ports[0])}
    called = min(servers) if proxy == "none" else (str(service.cluster_ip), 80)
    found = converse(deploy(cluster, ptp, proxy), client.address, *called)
    assert (found.first.packet.destination, found.first.packet.destination_port) in servers
    assert found.reply is not None
    assert (found.reply.packet.source, found.reply.packet.source_port) == called
    assert found.reply.delivered_to == client.full_name


def test_the_scenario_runs() -> None:
    (block,) = blocks("yaml")
    document = parse_yaml(block, "README.md")
    document.data["traffic"]["connections"] = 20
    assert run(scenario_from(document, ROOT / "experiments")).summary["transactions"] > 0


@pytest.mark.parametrize("name", [*cni_names(), *proxy_names(), *workload_names()])
def test_every_plugin_is_listed(name: str) -> None:
    assert f"`{name}`" in README


@pytest.mark.parametrize("file", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_experiment_is_listed(file: Path) -> None:
    experiment, _ = load_experiment(file)
    assert f"| `{file.stem}` |" in README
    assert experiment.name == file.stem


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    for target in re.findall(r"`((?:kubesim|experiments|tests)/[\w./-]+)`", README):
        assert (ROOT / target).exists(), target


def test_python_of_the_experiments_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "experiments" / "README.md").read_text("utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    file = tmp_path / "experiments" / "proxy-against-endpoints.yaml"
    file.write_text(file.read_text().replace("replications: 3", "replications: 2"))
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "experiments/README.md", "exec"), {})  # noqa: S102 - what the page shows
    assert (tmp_path / "results" / "proxy-against-endpoints" / "runs.parquet").exists()
