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
# # First steps
#
# **What does a connection to one of 1000 Services cost, where does the time go, and what does one change bring?**
#
# A *scenario* says what exists: a cluster, a CNI plugin that wires the pods, a proxy that programs the Services, and
# traffic. This one is a file; `kubesim.Scenario(...)` makes one in Python.

# %%
import pandas as pd
from IPython.display import Markdown

import kubesim

scenario = kubesim.load_scenario("../experiments/scenarios/among-1000-services.yaml")
scenario

# %% [markdown]
# ## Run it
#
# Four clients on the first node open connections, one after the other, to Services whose pods are on the second node.

# %%
result = kubesim.run(scenario)
result

# %% [markdown]
# All numbers are in `result.summary`, and every transaction is a row of a table.

# %%
result.transactions[["client", "service", "server", "latency_ns"]].head()

# %% [markdown]
# ## Follow one connection
#
# The first packet of a connection walks the rules that the proxy has written; later ones find the connection in
# conntrack's table. The picture is the first packet's way: machines, namespaces, devices and hooks, with the addresses
# before and after each change.

# %%
trace = kubesim.trace(scenario, "client-1", "svc-0500")
trace

# %% [markdown]
# ## Where does the CPU time go?

# %%
dearest = result.breakdown[result.breakdown["is_cpu"]].head(8)
kubesim.draw_frame(
    dearest,
    x="operation",
    y="ns_per_transaction",
    kind="bars",
    title="The dearest operations of a transaction, all hosts",
    y_label="CPU time per transaction",
)

# %% [markdown]
# ## Change one thing
#
# `with_fields` takes what `kubesim run --set` takes. The seed stays, so that both runs see the same connections.

# %%
changed = kubesim.run(scenario.with_fields({"proxy": "nftables"}))
measures = ["first_packet_rules", "first_packet_ns", "established_packet_ns", "latency_p50_ns", "throughput_per_s"]
both = pd.DataFrame({"iptables": result.summary, "nftables": changed.summary}).loc[measures].astype(float)
change = (both["nftables"] / both["iptables"] - 1).map("{:+.1%}".format)
both.map("{:,.0f}".format).assign(change=change)

# %% [markdown]
# ## Conclusion

# %%
first = trace.packet("first")
rules = result.breakdown.set_index("operation").loc["iptables_rule"]
shorter = 1 - changed.summary["latency_p50_ns"] / result.summary["latency_p50_ns"]
Markdown(
    f"The first packet to `svc-0500` is held against **{first.rules_tested:,} rules**; an established one against "
    f"{trace.packet('established').rules_tested}. Testing rules is **{rules['share']:.0%}** of the CPU time of a new "
    f"connection with a request and its reply. With `nftables` in place of `iptables` the median latency is "
    f"**{shorter:.0%} shorter**, and that of an established packet "
    f"{changed.summary['established_packet_ns'] / result.summary['established_packet_ns'] - 1:+.0%} in CPU time."
)

# %% [markdown]
# What do these numbers rest on? `kubesim.evidence` lists every price behind a scenario, the weakest evidence first.

# %%
kubesim.evidence(scenario)
