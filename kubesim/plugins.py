"""Finds plugins by file name, so that file name, name in YAML and label in a figure are one word."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from kubesim.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from types import ModuleType


def plugin_names(package: ModuleType, separator: str = "-") -> list[str]:
    """Names of the plugins in a package: its modules, without those whose names begin with an underscore."""
    modules = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name.replace("_", separator) for name in modules if not name.startswith("_"))


def load_plugin(package: ModuleType, name: str, what: str, separator: str = "-") -> Any:
    """The class called ``Plugin`` in the plugin's module.

    Raises
    ------
    InputError
        If there is no such plugin.
    """
    names = plugin_names(package, separator)
    if name not in names:
        raise InputError(f"there is no {what} {name!r}: {did_you_mean(name, names)}")
    module = importlib.import_module(f"{package.__name__}.{name.replace(separator, '_')}")
    return module.Plugin
