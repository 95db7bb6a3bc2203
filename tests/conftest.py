"""Paths to the recorded outputs; tests that need them are skipped with a reason where they do not exist."""

import os
from pathlib import Path

import pytest
import torch

pytest_plugins = ["tests.fixtures.devices", "tests.fixtures.faces", "tests.fixtures.networks", "tests.fixtures.runs"]
"""What several rooms' tests need; a conftest of one room may put its own in its place."""
SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips tests marked gpu where there is none, from one place, so that one line says so."""
    is_on_cpu = os.environ.get("GPEN_GPU_TESTS_ON") == "cpu"
    if item.get_closest_marker("gpu") and not is_on_cpu and not torch.cuda.is_available():
        pytest.skip("there is no GPU that torch can use")


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder with recorded outputs of the public network and of OpenCV."""
    folder = SHARED / "fixtures"
    if not folder.is_dir():
        pytest.skip(f"recorded outputs are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def photographs() -> Path:
    """A folder of real aligned 128-pixel faces."""
    folder = SHARED / "faces" / "lfw_128" / "val"
    if not folder.is_dir():
        pytest.skip(f"photographs are not at {folder}")
    return folder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny networks are fastest so, above all where a core is shared, and sums do not depend on the machine."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def deterministic_torch() -> None:
    """Every test starts from the same global seed, so that none depends on the order of the others."""
    torch.manual_seed(0)
