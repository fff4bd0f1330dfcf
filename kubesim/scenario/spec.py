"""The scenario file: one setting of everything, as people write it."""

from __future__ import annotations

from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    create_model,
    field_validator,
    model_validator,
)

from kubesim.cluster import ClusterSpec
from kubesim.cni import cni_class, cni_names
from kubesim.cost import DEFAULT_COST_SET, is_file_name
from kubesim.engine import AUTO, ENGINES
from kubesim.errors import did_you_mean
from kubesim.files import YamlDocument
from kubesim.proxy import proxy_class, proxy_names
from kubesim.scenario.conntrack_tables import ConntrackSpec
from kubesim.scenario.fields import set_field
from kubesim.scenario.includes import read_document
from kubesim.scenario.rule_updates import UpdateSpec
from kubesim.scenario.showing import scenario_html
from kubesim.validation import validate
from kubesim.workload import Workload, workload_class, workload_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    CniChoice = Any
    ProxyChoice = Any
    TrafficChoice = Workload
else:

    def _plugin_choice(names: list[str], settings_model: Callable[[str], type[BaseModel]], **common: Any) -> Any:
        """The settings of one of several plugins, told apart by name; a bare name stands for its defaults."""
        models = [
            create_model(name, __base__=settings_model(name), name=(Literal[name], name), **common) for name in names
        ]
        choice = Annotated[reduce(or_, models), Field(discriminator="name")] if len(models) > 1 else models[0]
        return Annotated[
            choice, BeforeValidator(_bare_name, json_schema_input_type=Literal[tuple(names)] | reduce(or_, models))
        ]

    def _bare_name(value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    PodMtu = Annotated[
        int | None,
        Field(
            ge=576,
            le=65_535,
            description="MTU of the pods' interfaces and of tunnels in bytes, if not what the plugin makes of the "
            "network's; with one that is too large, large packets are cut outside, or lost",
        ),
    ]
    CniChoice = _plugin_choice(cni_names(), lambda name: cni_class(name).settings_model, pod_mtu=(PodMtu, None))
    ProxyChoice = _plugin_choice(proxy_names(), lambda name: proxy_class(name).settings_model)
    TrafficChoice = Annotated[
        reduce(or_, [workload_class(name) for name in workload_names()]), Field(discriminator="workload")
    ]


class Hardware(BaseModel):
    """The machines: all nodes are alike."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    cores: int = Field(default=8, ge=2, le=1024, description="cores of a node")
    softirq_cores: int = Field(
        default=4,
        ge=1,
        le=512,
        description="cores that take the card's interrupts; the others run applications",
    )
    rps_cores: int = Field(
        default=0,
        ge=0,
        le=512,
        description="further cores, to which those that take interrupts hand packets on by the flow's hash (RPS, "
        "rps_cpus); 0 for none: the softirq cores do all themselves",
    )
    nic_gbit_per_s: float = Field(default=10, ge=0.001, le=3200, description="line rate of a node's card")
    mtu: int = Field(default=1500, ge=576, le=65_535, description="MTU of the network between the nodes, in bytes")
    wire_ns: int = Field(
        default=1500,
        ge=1,
        le=1_000_000_000,
        description="time from card to card besides the line rate: PCIe, PHY, switch",
    )
    receive_ring: int = Field(default=1024, ge=1, le=1_000_000, description="packets that wait for a softirq core")
    netdev_max_backlog: int = Field(
        default=1000, ge=1, le=1_000_000, description="packets that wait for a core of RPS; nothing else reaches it"
    )
    transmit_queue: int = Field(default=1000, ge=1, le=1_000_000, description="packets that wait for the card")
    switch_queue: int = Field(
        default=1000, ge=1, le=1_000_000, description="packets that wait in the switch for a node"
    )
    has_segmentation_offload: bool = Field(
        default=True, description="whether cards cut large packets into frames (TSO); if not, the kernel does"
    )
    has_tunnel_offload: bool = Field(default=True, description="whether cards cut large packets inside tunnels")
    has_receive_offload: bool = Field(
        default=True, description="whether received frames are merged into large packets (GRO)"
    )

    @field_validator("softirq_cores")
    @classmethod
    def _leaves_cores(cls, softirq_cores: int, info: Any) -> int:
        cores = info.data.get("cores")
        if cores is not None and softirq_cores >= cores:
            raise ValueError(_none_left(softirq_cores, cores))
        return softirq_cores

    @model_validator(mode="after")
    def _default_leaves_cores(self) -> Self:
        """Refuse few cores that nobody has divided; a number that is given is looked at by itself."""
        if self.softirq_cores >= self.cores:
            raise ValueError(_none_left(self.softirq_cores, self.cores))
        return self

    @field_validator("rps_cores")
    @classmethod
    def _leaves_cores_too(cls, rps_cores: int, info: Any) -> int:
        cores, softirq_cores = info.data.get("cores"), info.data.get("softirq_cores")
        if cores is not None and softirq_cores is not None and softirq_cores + rps_cores >= cores:
            taken = f"{rps_cores} for RPS and {softirq_cores} for interrupts"
            raise ValueError(f"{taken} of {cores} cores leave none for applications")
        return rps_cores


def _none_left(softirq_cores: int, cores: int) -> str:
    return f"{softirq_cores} of {cores} cores for interrupts leave none for applications"


def _kind_of_warm_up(value: object) -> str:
    """Which of the two ways to say it is meant, so that what is wrong is said of that way."""
    return "rule" if isinstance(value, str) else "share"


WarmUp = Annotated[
    Annotated[float, Field(ge=0, lt=1), Tag("share")] | Annotated[Literal["mser-5"], Tag("rule")],
    Discriminator(_kind_of_warm_up),
]


class Scenario(BaseModel):
    """One setting of everything: run it, and the same seed gives the same bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(default="scenario", min_length=1, max_length=200, description="what it is called in results")
    description: str = Field(default="", description="what it is for")
    cluster: ClusterSpec = Field(default=ClusterSpec(), description="what exists")
    cni: CniChoice = Field(description="how pods are wired: a name, or a name with settings")
    proxy: ProxyChoice = Field(description="how Services are programmed: a name, or a name with settings")
    traffic: TrafficChoice = Field(description="what is sent")
    hardware: Hardware = Field(default=Hardware(), description="machines and network")
    conntrack: ConntrackSpec | None = Field(
        default=None,
        description="nodes' conntrack tables, where they may fill; without it, they have a place for any connection",
    )
    update: UpdateSpec | None = Field(
        default=None, description="a change of the cluster, to see what rules it makes a node write"
    )
    costs: str = Field(default=DEFAULT_COST_SET, description="cost set: a name, or a YAML file")
    engine: str = Field(
        default=AUTO,
        description="who plays the packets: compiled (Numba; slow without it), simpy, or auto: whichever is faster "
        "here; results are the same",
    )
    seed: int = Field(default=1, ge=0, lt=1 << 64, description="of all random numbers")
    replication: int = Field(default=0, ge=0, le=1_000_000, description="which repetition with other random numbers")
    warmup: WarmUp = Field(
        default=0.1,
        description="share of the transactions to leave out as warm-up; or mser-5, to find by MSER-5 how many",
    )

    @field_validator("engine")
    @classmethod
    def _is_engine(cls, name: str) -> str:
        known = (AUTO, *ENGINES)
        if name not in known:
            raise ValueError(f"there is no engine {name!r}: {did_you_mean(name, known)}")
        return name

    def with_fields(self, fields: Mapping[str, Any]) -> Scenario:
        """The same scenario with some fields changed, as ``--set`` changes them.

        >>> small = Scenario(cni="flannel-vxlan", proxy="iptables", traffic={"workload": "tcp_rr"})
        >>> small.with_fields({"cluster.services": 1000, "proxy": "nftables"}).cluster.services
        1000

        Parameters
        ----------
        fields
            Values by dotted path of the field.

        Raises
        ------
        InputError
            If there is no such field, or a value makes no sense for it.
        """
        data = self.model_dump(by_alias=True, exclude_unset=True)
        for path, value in fields.items():
            set_field(data, path, value)
        return validate(Scenario, YamlDocument(self.name, data, None, {path: path for path in fields}))

    def _repr_html_(self) -> str:
        return scenario_html(self)


def load_scenario(path: Path | str) -> Scenario:
    """Read a scenario file; paths in it are relative to its directory.

    Parameters
    ----------
    path
        A YAML file.

    Raises
    ------
    InputError
        If it cannot be read or makes no sense; the message has file, line, field and what is known.
    """
    path = Path(path)
    return scenario_from(read_document(path), path.parent)


def scenario_from(document: YamlDocument, base: Path) -> Scenario:
    """A scenario from a parsed document, with its paths made relative to where the command runs."""
    return with_paths(validate(Scenario, document), base)


def with_paths(scenario: Scenario, base: Path) -> Scenario:
    """The same scenario with relative paths taken from ``base``."""
    changed: dict[str, Any] = {
        name: _with_paths_of(getattr(scenario, name), base)
        for name in ("cluster", "cni", "proxy")
        if name in scenario.model_fields_set
    }
    if is_file_name(scenario.costs):
        changed["costs"] = str(base / scenario.costs)
    return scenario.model_copy(update=changed)


def _with_paths_of(settings: BaseModel, base: Path) -> BaseModel:
    """Some settings with relative paths taken from ``base``."""
    rebased = {name: _rebased(value, base) for name, value in settings}
    changed = {name: value for name, value in rebased.items() if value != getattr(settings, name)}
    return settings.model_copy(update=changed)  # what nobody has given does not count as given then


def _rebased(value: Any, base: Path) -> Any:
    if isinstance(value, Path):
        return base / value
    if isinstance(value, list):
        return [_rebased(one, base) for one in value]
    if isinstance(value, dict):
        return {key: _rebased(one, base) for key, one in value.items()}
    return value
