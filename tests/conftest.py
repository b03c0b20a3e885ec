"""Fixtures for all tests, which of them are quick, and which begin first."""

from __future__ import annotations

from pathlib import Path

import pytest

# Longest first, so that no process works alone at the end. See `make test`, which runs a file in one process.
LONGEST = (
    *("test_docs", "test_upscale_video", "test_cli", "test_plain_networks", "test_distributed"),
    *("test_export", "test_importers", "test_bad_input", "test_sesr_device", "test_bench_accuracy"),
    *("test_upscale", "test_data_cached", "test_models_speed", "test_host_training", "test_bench_training"),
)
# What `make test-fast` runs: neither TensorFlow nor trainings nor programs of their own.
FAST = frozenset(
    {
        *("test_archs_abpn", "test_archs_linear_block", "test_archs_sesr", "test_checkpoint", "test_config"),
        *("test_data_bicubic", "test_data_check", "test_data_image_pairs", "test_data_training_set"),
        *("test_graph", "test_layers", "test_options", "test_processor", "test_quantization"),
        *("test_sesr_models", "test_cpus"),
    }
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks quick tests, and puts long files first."""
    order = {name: index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
    for item in items:
        if item.path.stem in FAST:
            item.add_marker("fast")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of test photographs beside the repository; the test is skipped where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the test photographs in ../shared/data")
    return folder
