"""Reads directories of results back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd

from kubesim.errors import InputError
from kubesim.files import MANIFEST, read_text

if TYPE_CHECKING:
    from pathlib import Path


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a directory of results.

    Raises
    ------
    InputError
        If there is none, or it is damaged.
    """
    if not (directory / MANIFEST).exists():
        raise InputError(f"{directory} holds no results of kubesim: there is no {MANIFEST}")
    try:
        manifest = json.loads(read_text(directory / MANIFEST))
    except json.JSONDecodeError as error:
        raise InputError(f"{directory / MANIFEST}, line {error.lineno}: {error.msg}") from None
    if not isinstance(manifest, dict) or manifest.get("kind") not in ("run", "sweep", "validation"):
        raise InputError(f"{directory / MANIFEST} is not a manifest of kubesim")
    return manifest


def read_parquet(path: Path) -> pd.DataFrame:
    """A table of results.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        raise InputError(f"there is no {path}: no run was finished") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged: {str(error).splitlines()[0]}") from None
