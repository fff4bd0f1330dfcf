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
# # iptables, nftables or IPVS?
#
# **From how many Services on does the mode of kube-proxy matter, and to whom?**
#
# kube-proxy writes a rule per Service in `iptables` mode, an element of a map in `nftables` mode, and an entry of a
# hash table in `ipvs` mode. Nothing in the simulator says which is slow: the rules are written, and a packet is held
# against them.

# %%
import pandas as pd
from IPython.display import Markdown

import kubesim

base = kubesim.Scenario(
    name="proxies",
    cluster={"nodes": 2, "endpoints": 3, "endpoint_nodes": ["node-2"]},
    cni="flannel-host-gw",
    proxy="iptables",
    traffic={"workload": "tcp_crr", "clients_on": ["node-1"], "connections": 4, "transactions": 200},
)

# %% [markdown]
# ## A small sweep
#
# A sweep is a loop over scenarios. All runs have the same seed, and so the same connections.

# %%
rows = []
for services in (10, 100, 1000, 3000, 10_000):
    for proxy in ("iptables", "nftables", "ipvs"):
        run = kubesim.run(base.with_fields({"cluster.services": services, "proxy": proxy}))
        rows.append({"services": services, "proxy": proxy, **run.summary})
runs = pd.DataFrame(rows)
runs.pivot_table(index="services", columns="proxy", values="first_packet_rules").map("{:,.0f}".format)

# %% [markdown]
# That is how many rules a connection's first packet is held against, on average over the Services. What it costs:

# %%
kubesim.draw_frame(
    runs,
    x="services",
    y="first_packet_ns",
    by="proxy",
    title="The first packet of a connection",
    x_label="Services",
    y_label="CPU time of a first packet",
)

# %% [markdown]
# ## And all later packets?
#
# They find their connection in conntrack's table, and meet no rule of a Service.

# %%
kubesim.draw_frame(
    runs,
    x="services",
    y="established_packet_ns",
    by="proxy",
    title="An established packet",
    x_label="Services",
    y_label="CPU time of an established packet",
)

# %% [markdown]
# ## Who notices?
#
# A client that sends *n* requests over one connection pays for one first packet and *n* − 1 established ones. So what
# the mode costs is divided by *n*.

# %%
at_most = runs[runs["services"] == runs["services"].max()].set_index("proxy")
requests = pd.DataFrame({"requests": [1, 2, 5, 10, 30, 100, 300, 1000]})
per_request = pd.concat(
    requests.assign(
        proxy=proxy,
        cpu_ns_per_request=(row["first_packet_ns"] + (requests["requests"] - 1) * row["established_packet_ns"])
        / requests["requests"],
    )
    for proxy, row in at_most.iterrows()
)
kubesim.draw_frame(
    per_request,
    x="requests",
    y="cpu_ns_per_request",
    by="proxy",
    title=f"Among {runs['services'].max():,} Services, by requests per connection",
    x_label="requests per connection",
    y_label="CPU time of the packet of a request",
)

# %% [markdown]
# ## Conclusion

# %%
first = runs.pivot_table(index="services", columns="proxy", values="first_packet_ns")
dearer = first.index[first["iptables"] > 1.1 * first["nftables"]]
extra_ns = first["iptables"].iloc[-1] - first["nftables"].iloc[-1]
enough = int(extra_ns / (0.05 * at_most.loc["nftables", "established_packet_ns"])) + 1
later_us = runs["established_packet_ns"] / 1000
Markdown(
    f"* Of the sizes tried, `iptables` costs a new connection at least 10 % more than `nftables` from "
    f"**{dearer.min():,} Services** on. At {first.index.max():,} it is {first['iptables'].iloc[-1] / 1000:.0f} µs "
    f"against {first['nftables'].iloc[-1] / 1000:.0f} µs (`ipvs`: {first['ipvs'].iloc[-1] / 1000:.0f} µs).\n"
    f"* An established packet costs {later_us.min():.1f} to {later_us.max():.1f} µs, at any size and in any mode.\n"
    f"* Even among {first.index.max():,} Services, clients with **{enough:,} requests per connection** or more pay at "
    f"most 5 % for `iptables`. Who opens a connection per request pays {extra_ns / 1000:.0f} µs of CPU time each time."
)

# %% [markdown]
# What a *change* of the cluster costs in each mode is another question:
# `experiments/rule-updates-against-services.yaml` answers it. `experiments/what-services-cost.yaml` has more plugins
# and sizes, and replications.
