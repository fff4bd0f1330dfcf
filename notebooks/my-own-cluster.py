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
# # My own cluster
#
# **What do the rules on my nodes do to a packet, are they what kube-proxy has written, and what would another mode
# change?**
#
# Two texts are all that is needed. The objects, from anywhere `kubectl` works:
#
#     kubectl get nodes,pods,services,endpointslices -A -o yaml > my-cluster/objects.yaml
#
# and a node's rules, as root on it (or from a pod that shares the host's network):
#
#     iptables-save > my-cluster/node-1.iptables-save
#
# `nft list ruleset`, `ipvsadm -Sn` and `ipset save` can be read too. Both files here are of a small shop that comes
# along. Put yours in their place, and change the names below.

# %%
from pathlib import Path

import pandas as pd
from IPython.display import Markdown

import kubesim

OBJECTS = Path("my-cluster/objects.yaml")
RULES = Path("my-cluster/node-1.iptables-save")
NODE, CLIENT, SERVICE = "node-1", "shop/frontend-7d4b9", "shop/cart"

# %% [markdown]
# ## What do the rules do to a packet?
#
# A pod on the node, 10.244.0.10, opens a connection to the virtual address of the Service `cart`. Every way that the
# packet can take is listed, with its probability.

# %%
dumps = kubesim.read_dumps([RULES])
flow = kubesim.Flow(source="10.244.0.10", destination="10.96.31.4", protocol="tcp", port=7070)
outcomes = kubesim.trace_rules(flow, dumps.install)
outcomes

# %% [markdown]
# ## Are they what kube-proxy writes?
#
# `node_rules` writes what kube-proxy would write for these objects, to the character. What is in only one of the two
# texts came from somebody else, or is missing.

# %%
expected = kubesim.node_rules([OBJECTS], NODE, form="save")


def rules_of(text: str) -> set[str]:
    """The rules of a dump, without counters and comments of the tool."""
    return {line for line in text.splitlines() if line.startswith("-A ")}


written, found = rules_of(expected.text), rules_of(RULES.read_text())
difference = pd.DataFrame(
    [("only on the node", rule) for rule in sorted(found - written)]
    + [("missing on the node", rule) for rule in sorted(written - found)],
    columns=["where", "rule"],
)
pd.set_option("display.max_colwidth", None)
difference

# %% [markdown]
# ## The whole cluster
#
# With the objects a scenario has the cluster's own nodes, pods and addresses. `dump` in place of a proxy takes the
# rules as they are, on the nodes that they were read on; the other node needs none here, since the client is on this
# one.

# %%
as_it_is = kubesim.Scenario(
    name="my-own-cluster",
    cluster={"manifests": [OBJECTS]},
    cni="flannel-vxlan",
    proxy={"name": "dump", "node_rules": {NODE: [RULES]}},
    traffic={
        "workload": "poisson_connections",
        "from": CLIENT,
        "to": SERVICE,
        "connections": 1000,
        "rate_per_s": 2000,
    },
)
result = kubesim.run(as_it_is)
result

# %% [markdown]
# ## The way of a packet through my cluster

# %%
kubesim.trace(as_it_is, CLIENT, SERVICE)

# %% [markdown]
# ## What would another mode change?
#
# Without the rules that are not kube-proxy's: as the cluster is, and with Services of other people in it.

# %%
OTHERS = 400
rows = []
for proxy in ("iptables", "nftables", "ipvs"):
    for others in (0, OTHERS):
        run = kubesim.run(as_it_is.with_fields({"proxy": proxy, "cluster.services": others}))
        rows.append({"proxy": proxy, "other Services": others, **run.summary})
modes = pd.DataFrame(rows).set_index(["proxy", "other Services"])
shown = modes[["first_packet_rules", "first_packet_ns", "established_packet_ns"]].map("{:,.0f}".format)
shown.assign(loss=modes["loss_ratio"].map("{:.0%}".format))

# %% [markdown]
# ## Conclusion

# %%
refused = [one for one in outcomes.outcomes if one.verdict != "ACCEPT"]
probability = sum(one.probability for one in refused)
small, large = (modes["first_packet_ns"].xs(others, level="other Services") / 1000 for others in (0, OTHERS))
Markdown(
    f"* **{probability:.0%}** of new connections to `{SERVICE}` get nowhere on {NODE}"
    + (f": those to {', '.join(one.to for one in refused)}." if refused else ".")
    + f" Simulated, {result.summary['loss_ratio']:.0%} of the transactions were lost.\n"
    f"* {len(found - written)} rules on the node are not kube-proxy's, and {len(written - found)} of kube-proxy's are "
    "missing.\n"
    f"* With {OTHERS} Services more, a new connection's first packet would cost {large['iptables']:.1f} µs in place of "
    f"{small['iptables']:.1f} µs with `iptables`, and {large['nftables']:.1f} µs in place of "
    f"{small['nftables']:.1f} µs with `nftables`."
)
