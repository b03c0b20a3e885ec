"""How many processors count, and what libraries are told before they start threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from networks import seeded_abpn

from mobilesr_plugin.cpus import cgroup_quota, settle_threads, usable_cpus
from mobilesr_plugin.export.onnx_file import write_onnx
from mobilesr_plugin.graph.lower import lower
from mobilesr_plugin.graph.rewrite import simplify
from mobilesr_plugin.graph.trace import trace
from mobilesr_plugin.runtimes import OnnxRunner
from mobilesr_plugin.verify.references import References

COUNTS = """
import json, os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from mobilesr_plugin.cpus import usable_cpus
from mobilesr_plugin.data.workers import default_workers
from mobilesr_plugin.options import TFLiteOptions
threads = [TFLiteOptions(threads=given).threads for given in (None, 3)]
print(json.dumps([usable_cpus(), default_workers(), *threads]))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity can be set on Linux only")
def test_threads_follow_affinity() -> None:
    done = subprocess.run([sys.executable, "-c", COUNTS], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [1, 1, 1, 3]


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("cpu_", "cpu.")).write_text(content + "\n")


@pytest.mark.parametrize(
    ("own", "groups", "quota"),
    [
        ("0::/", {".": {"cpu_max": "150000 100000"}}, 1.5),
        ("0::/", {".": {"cpu_max": "max 100000"}}, None),
        ("0::/a/b", {"a": {"cpu_max": "50000 100000"}, "a/b": {"cpu_max": "300000 100000"}}, 0.5),
        ("4:cpu,cpuacct:/", {"cpu": {"cpu_cfs_quota_us": "200000", "cpu_cfs_period_us": "100000"}}, 2.0),
        ("4:cpu:/x", {"cpu/x": {"cpu_cfs_quota_us": "-1", "cpu_cfs_period_us": "100000"}}, None),
        ("3:memory:/\n2:cpuset:/", {"cpuset": {"cpu_cfs_quota_us": "1", "cpu_cfs_period_us": "1"}}, None),
        ("0::/", {".": {"cpu_max": "damaged"}}, None),
        ("nothing", {}, None),
    ],
)
def test_quotas_of_control_groups(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own: str,
    groups: dict[str, dict[str, str]],
    quota: float | None,
) -> None:
    (tmp_path / "own").write_text(own + "\n")
    for folder, files in groups.items():
        write(tmp_path / "mounted" / folder, **files)
    given = {"root": tmp_path / "mounted", "own": tmp_path / "own"}
    assert cgroup_quota(**given) == quota
    monkeypatch.setattr(cgroup_quota, "__defaults__", tuple(given.values()))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {*range(8)}, raising=False)
    assert usable_cpus() == {0.5: 1, 1.5: 2, 2.0: 2, None: 8}[quota]
    environ: dict[str, str] = {}
    settle_threads(environ)
    assert environ.get("OMP_NUM_THREADS") == (None if quota is None else str(usable_cpus()))


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert cgroup_quota(tmp_path, tmp_path / "none") is None


@pytest.mark.parametrize(
    ("own", "policy"),
    [
        ({}, "PASSIVE"),
        ({"OMP_WAIT_POLICY": "active"}, "active"),
        ({"GOMP_SPINCOUNT": "7"}, None),
    ],
)
def test_what_the_user_has_set_stays(own: dict[str, str], policy: str | None) -> None:
    environ = dict(own)
    settle_threads(environ)
    assert environ.get("OMP_WAIT_POLICY") == policy
    assert own.items() <= environ.items()


def openmp(*command: str) -> str:
    """What OpenMP says of its settings when it is loaded, that is when torch is imported."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-m", "mobilesr_plugin.cli", *command],
        capture_output=True,
        text=True,
        env=clean | {"OMP_DISPLAY_ENV": "VERBOSE"},
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="what OpenMP prints is that of GNU's")
def test_openmp_is_told_before_torch_loads_it() -> None:
    said = openmp("export", "--ckpt", "none.pth")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in said
    assert "GOMP_SPINCOUNT = '0'" in said
    assert "none.pth" in said


@pytest.mark.skipif(sys.platform != "linux", reason="what OpenMP prints is that of GNU's")
def test_benchmarks_measure_libraries_as_they_are() -> None:
    assert "GOMP_SPINCOUNT = '0'" not in openmp("bench", "training-step", "--variant", "none")


def test_onnx_runtime_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The options that a session was made with can be read back."""
    write_onnx(lower(simplify(trace(seeded_abpn(2)))), tmp_path / "network.onnx")
    runner = OnnxRunner(tmp_path / "network.onnx")
    options = runner._session.get_session_options()
    assert options.intra_op_num_threads == usable_cpus()
    for pool in ("intra_op", "inter_op"):
        assert options.get_session_config_entry(f"session.{pool}.allow_spinning") == "0"
    assert isinstance(runner._session, onnxruntime.InferenceSession)


class Counting(torch.nn.Module):
    """Multiplies by itself, and notes who asks, how many times, and with how many threads."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []
        self.names: set[str] = set()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.threads.append(torch.get_num_threads())
        self.names.add(threading.current_thread().name)
        return x * x


def test_references_are_computed_once_and_settings_come_back() -> None:
    network, before = Counting(), torch.get_num_threads()
    cudnn = torch.backends.cudnn.enabled
    images = [np.full((4, 5, 3), value, np.uint8) for value in (0, 100, 255)]
    with References() as references:
        first, second = references.of(network, images), references.of(network, images)
        for run in (first, second):
            assert [int(run(image[None])[0, 0, 0, 0]) for image in images] == [0, 39, 255]
    assert network.threads == [max(1, usable_cpus() // min(usable_cpus(), 4))] * 3
    assert "MainThread" not in network.names
    assert (torch.get_num_threads(), torch.backends.cudnn.enabled) == (before, cudnn)


def test_a_reference_that_fails_says_so() -> None:
    def fail(x: torch.Tensor) -> torch.Tensor:
        raise ValueError("no such layer")

    network = Counting()
    network.forward = fail
    image = np.zeros((2, 2, 3), np.uint8)
    with References() as references, pytest.raises(ValueError, match="no such layer"):
        references.of(network, [image])(image[None])
