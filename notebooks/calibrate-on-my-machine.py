# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: -all
#     notebook_metadata_filter: kernelspec,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Calibrate on my machine
#
# **How much do predictions depend on whose prices they are made of, and how do I get my own?**
#
# Every operation of the kernel has a price in a *cost set*. The default one is put together from figures that were
# published for x86 servers. `kubesim calibrate` measures this machine instead: it builds small clusters in network
# namespaces that differ in one thing each, times packets from socket to socket, walks the same ways in the simulator,
# solves for the price of each operation, and tries the prices on ways that it has not seen.
#
# It needs Linux, root, `pyroute2` and the tools `iproute2 iptables nftables ipset procps`, and takes half a minute with
# `--quick`. Only namespaces called `kubesim-…` are touched, and none is left.

# %%
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
from IPython.display import Markdown

import kubesim

MINE = Path("my-machine.yaml")
MEASURE = "CI" not in os.environ  # a build server shares its cores with others: what it measures is worth nothing

# %% [markdown]
# ## Measure
#
# The same as `sudo kubesim calibrate --quick --out my-machine.yaml` in a shell. A file that is there already is kept.

# %%
if MINE.exists():
    said = f"{MINE} is there already, and kept."
elif MEASURE:
    command = [sys.executable, "-m", "kubesim", "calibrate", "--quick", "--out", str(MINE)]
    environment = {name: value for name, value in os.environ.items() if name != "FORCE_COLOR"}  # no bar in a page
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    said = (done.stdout if done.returncode == 0 else done.stderr).strip()
else:
    said = "not measured on a build server"
print(said)

# %% [markdown]
# Where that was not possible, a set that was made in the same way comes along: of Linux 6.18 on a virtual machine with
# an EPYC processor.

# %%
measured = str(MINE) if MINE.exists() else "linux-6.18-epyc-vm"
costs = kubesim.load_cost_set(measured)
costs

# %% [markdown]
# ## Compare prices
#
# Both sets price the same operations. Those that were measured, and take some time:

# %%
default = kubesim.load_cost_set("published-x86-server")
prices = pd.DataFrame(
    [
        {
            "operation": name,
            "published_ns": default.operation(name).price_ns(items=1, size_bytes=64),
            "measured_ns": operation.price_ns(items=1, size_bytes=64),
        }
        for name, operation in costs.operations.items()
        if name in default.operations and any(number.kind == "measured" for _, number in operation.numbers())
    ]
)
prices["ratio"] = prices["measured_ns"] / prices["published_ns"]
prices.nlargest(12, "measured_ns").round(2)

# %% [markdown]
# ## Compare predictions
#
# One packet among 1000 Services, new and established, with the prices of each set.

# %%
scenario = kubesim.load_scenario("../experiments/scenarios/among-1000-services.yaml").with_fields(
    {"traffic": {"workload": "udp_rr", "clients_on": ["node-1"], "transactions": 200}}
)
rows = []
for name, file in ((default.name, default.name), (costs.name, measured)):
    for proxy in ("iptables", "nftables"):
        summary = kubesim.run(scenario.with_fields({"costs": file, "proxy": proxy})).summary
        for packet in ("first", "established"):
            ns = summary[f"{packet}_packet_ns"]
            rows.append({"costs": name, "packet": f"{packet}, {proxy}", "cpu_ns": ns})
predictions = pd.DataFrame(rows)
kubesim.draw_frame(
    predictions,
    x="packet",
    y="cpu_ns",
    by="costs",
    kind="bars",
    title="The same packets, by two cost sets",
    x_label="packet and proxy",
    y_label="CPU time of a packet",
)

# %% [markdown]
# ## Conclusion

# %%
table = predictions.pivot_table(index="packet", columns="costs", values="cpu_ns")
mine, theirs = table[costs.name], table[default.name]
ratio = mine / theirs
dearer = table.loc["first, iptables"] / table.loc["first, nftables"]
Markdown(
    f"* A packet takes **{ratio.min():.2f} to {ratio.max():.2f} times** as long by `{costs.name}` as by "
    f"`{default.name}`.\n"
    "* Compared on one machine, a new connection among 1000 Services costs `iptables` "
    + " and ".join(f"{times:.2f} times (`{name}`)" for name, times in dearer.items())
    + " what it costs `nftables`.\n"
    f"* The prices of **{len(prices)} operations** of `{costs.name}` were measured; all others are from the set "
    "that it extends."
)
