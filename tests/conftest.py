"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("kubesim", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "kubesim"))

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(scope="session")
def repository() -> Path:
    """The directory of the project."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Reference data beside the project; what it shows is also tested on small cases of the project's own."""
    data = SHARED / "data"
    if not data.is_dir():
        pytest.skip("the reference data directory ../shared/data is not there")
    return data


@pytest.fixture(scope="session")
def online_boutique() -> Path:
    """The manifest of a real application."""
    return REPOSITORY / "experiments" / "manifests" / "online-boutique.yaml"
