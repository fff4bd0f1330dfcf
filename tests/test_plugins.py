"""Plugins are found by file name."""

from __future__ import annotations

import pytest

from kubesim import cni, proxy, workload
from kubesim.cni import cni_class
from kubesim.errors import InputError
from kubesim.plugins import load_plugin, plugin_names
from kubesim.proxy import proxy_class
from kubesim.workload import workload_class


def test_names_are_file_names() -> None:
    assert {"calico-bgp", "flannel-host-gw", "flannel-vxlan"} <= set(plugin_names(cni))
    assert {"iptables", "ipvs", "nftables", "none"} <= set(plugin_names(proxy))
    assert "tcp_rr" in plugin_names(workload, separator="_")
    assert not [name for name in plugin_names(cni) if name.startswith(("-", "_"))]


def test_every_plugin_has_a_sentence_about_itself() -> None:
    classes = (
        [cni_class(name) for name in plugin_names(cni)]
        + [proxy_class(name) for name in plugin_names(proxy)]
        + [workload_class(name) for name in plugin_names(workload, separator="_")]
    )
    for plugin in classes:
        assert plugin.__doc__, plugin


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"there is no CNI plugin 'flanel-vxlan': did you mean 'flannel-vxlan'"):
        load_plugin(cni, "flanel-vxlan", "CNI plugin")
