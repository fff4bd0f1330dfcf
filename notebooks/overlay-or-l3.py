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
# # Overlay or plain routing?
#
# **What does a tunnel between nodes cost: in latency, in throughput, and in bytes?**
#
# An overlay works in any network: nodes see each other's addresses only. It pays for an outer header, a second look-up
# of the route and a second trip through netfilter. Plain routing needs a network that knows the pods' addresses, or
# nodes on one layer-2 network.

# %%
import pandas as pd
from IPython.display import Markdown

import kubesim

PLUGINS = {
    "flannel-host-gw": "flannel-host-gw",
    "flannel-vxlan": "flannel-vxlan",
    "calico-bgp": "calico-bgp",
    "calico-ipip": "calico-ipip",
    "calico-vxlan": "calico-vxlan",
    "cilium-native": {"name": "cilium", "routing": "native"},
    "cilium-tunnel": {"name": "cilium", "routing": "tunnel"},
}
base = kubesim.Scenario(
    name="overlays",
    cluster={"nodes": 2, "services": 10, "endpoints": 1, "endpoint_nodes": ["node-2"]},
    cni="flannel-host-gw",
    proxy="iptables",
    traffic={"workload": "tcp_rr", "clients_on": ["node-1"], "transactions": 500},
)

# %% [markdown]
# ## Latency of a small request

# %%
rows = []
for plugin, cni in PLUGINS.items():
    rows.append({"plugin": plugin, **kubesim.run(base.with_fields({"cni": cni})).summary})
requests = pd.DataFrame(rows)
kubesim.draw_frame(
    requests,
    x="plugin",
    y="latency_p50_ns",
    kind="bars",
    title="A request of one byte and its reply over an open connection",
    x_label="CNI plugin",
    y_label="median latency",
)

# %% [markdown]
# ## Goodput of one stream
#
# On a slow card the wire is the limit, on a fast one a core.

# %%
stream = {"workload": "tcp_stream", "clients_on": ["node-1"], "buffers": 400}
rows = []
for plugin, cni in PLUGINS.items():
    for gbit_per_s in (10, 100):
        chosen = base.with_fields({"cni": cni, "traffic": stream, "hardware.nic_gbit_per_s": gbit_per_s})
        rows.append({"plugin": plugin, "gbit_per_s": gbit_per_s, **kubesim.run(chosen).summary})
streams = pd.DataFrame(rows)
streams["card"] = streams["gbit_per_s"].map("{} Gbit/s".format)
kubesim.draw_frame(
    streams,
    x="plugin",
    y="goodput_bit_per_s",
    by="card",
    kind="bars",
    title="Payload of one TCP stream",
    x_label="CNI plugin",
    y_label="goodput",
)

# %% [markdown]
# ## MTU arithmetic
#
# On the slow card headers are all that counts. A full frame of an MTU of 1500 bytes is 1538 bytes long on the wire:
# Ethernet's header and checksum 18, preamble 8, gap 12. Of these, IP and TCP with time stamps take 52, and a tunnel
# takes its share.

# %%
TUNNEL_BYTES = {"flannel-vxlan": 50, "calico-ipip": 20, "calico-vxlan": 50, "cilium-tunnel": 50}
slow = streams[streams["gbit_per_s"] == 10].set_index("plugin")
arithmetic = pd.DataFrame({"tunnel_bytes": pd.Series(TUNNEL_BYTES).reindex(PLUGINS, fill_value=0)})
arithmetic["pod_mtu_bytes"] = 1500 - arithmetic["tunnel_bytes"]
arithmetic["payload_bytes"] = arithmetic["pod_mtu_bytes"] - 52
arithmetic["by_hand_gbit_per_s"] = 10 * arithmetic["payload_bytes"] / 1538
arithmetic["simulated_gbit_per_s"] = slow["goodput_bit_per_s"] / 1e9
arithmetic.round(3)

# %% [markdown]
# ## Conclusion

# %%
latency = requests.set_index("plugin")["latency_p50_ns"]
fast = streams[streams["gbit_per_s"] == 100].set_index("plugin")["goodput_bit_per_s"]
added_ns = latency["flannel-vxlan"] - latency["flannel-host-gw"]
hand = arithmetic["by_hand_gbit_per_s"]
by_hand = 1 - hand["flannel-vxlan"] / hand["flannel-host-gw"]
off = (arithmetic["simulated_gbit_per_s"] / arithmetic["by_hand_gbit_per_s"] - 1).abs().max()
Markdown(
    f"* VXLAN adds **{added_ns / 1000:.1f} µs** ({added_ns / latency['flannel-host-gw']:.0%}) to flannel's request and "
    f"reply; the quickest of all is `{latency.idxmin()}` with {latency.min() / 1000:.1f} µs, the slowest "
    f"`{latency.idxmax()}` with {latency.max() / 1000:.1f} µs.\n"
    f"* At 10 Gbit/s a stream through VXLAN loses "
    f"**{1 - slow.loc['flannel-vxlan', 'goodput_bit_per_s'] / slow.loc['flannel-host-gw', 'goodput_bit_per_s']:.1%}**, "
    f"and by its header alone it would be {by_hand:.1%}: arithmetic and simulation are at most {off:.2%} apart.\n"
    f"* At 100 Gbit/s it is {fast['flannel-vxlan'] / 1e9:.0f} against "
    f"{fast['flannel-host-gw'] / 1e9:.0f} Gbit/s, **{1 - fast['flannel-vxlan'] / fast['flannel-host-gw']:.0%}** less: "
    "64 KiB go through the tunnel at once, so that its price is paid rarely."
)

# %% [markdown]
# That holds where cards cut large packets inside tunnels. Where they do not, the kernel does:

# %%
without = base.with_fields(
    {
        "cni": "flannel-vxlan",
        "traffic": stream,
        "hardware.nic_gbit_per_s": 100,
        "hardware.has_tunnel_offload": False,
    }
)
goodput = kubesim.run(without).summary["goodput_bit_per_s"]
Markdown(
    f"Without offload in tunnels, VXLAN on the fast card is left with **{goodput / 1e9:.0f} Gbit/s** of "
    f"{fast['flannel-vxlan'] / 1e9:.0f}."
)
