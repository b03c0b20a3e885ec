"""What pip installs: the package, its commands, and the import hook, in normal and editable installs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
from host_fixtures import ROOT

import mobilesr_plugin

TEMPLATES = ("model_card.md.jinja", "report.html.jinja", "report.css", "report.js")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what packaging reads, because building writes into the source tree."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, folder)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "mobilesr_plugin", folder / "mobilesr_plugin", ignore=ignored)
    shutil.copytree(ROOT / "basicsr", folder / "basicsr", ignore=ignored)
    return folder


def build(source: Path, target: Path, hook: str) -> zipfile.ZipFile:
    """Build a wheel by the interface that pip uses, with the setuptools that is installed."""
    code = f"import sys; from setuptools import build_meta; build_meta.{hook}(sys.argv[1])"
    target.mkdir()
    subprocess.run(
        [sys.executable, "-c", code, str(target)], cwd=source, check=True, capture_output=True, timeout=120
    )
    (wheel,) = target.glob("*.whl")
    return zipfile.ZipFile(wheel)


@pytest.mark.parametrize("hook", ["build_wheel", "build_editable"])
def test_wheel_has_the_hook_in_its_root(source: Path, tmp_path: Path, hook: str) -> None:
    with build(source, tmp_path / "out", hook) as wheel:
        names = wheel.namelist()
        assert wheel.read("mobilesr_autoload.pth") == b"import mobilesr_autoload\n"
        own = (ROOT / "mobilesr_plugin/host/autoload.py").read_bytes()
        assert wheel.read("mobilesr_autoload.py") == own
        (record,) = (name for name in names if name.endswith("/RECORD"))
        listed = wheel.read(record).decode()
    assert "mobilesr_autoload.pth," in listed  # so that pip uninstall removes it
    top = {name.split("/")[0] for name in names if ".dist-info" not in name}
    if hook == "build_wheel":
        assert top == {"mobilesr_plugin", "mobilesr_autoload.py", "mobilesr_autoload.pth"}
        assert "mobilesr_plugin/py.typed" in names
        assert "mobilesr_plugin/host/activation.py" in names
        assert {f"mobilesr_plugin/templates/{name}" for name in TEMPLATES} <= set(names)
    else:
        # a plain path entry: an import finder would cost milliseconds in every Python start
        assert top == {
            f"__editable__.mobilesr_plugin-{mobilesr_plugin.__version__}.pth",
            "mobilesr_autoload.py",
            "mobilesr_autoload.pth",
        }


def test_metadata(source: Path, tmp_path: Path) -> None:
    with build(source, tmp_path / "out", "build_wheel") as wheel:
        folder = next(name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name)
        metadata = wheel.read(f"{folder}/METADATA").decode()
        commands = wheel.read(f"{folder}/entry_points.txt").decode()
    assert f"Version: {mobilesr_plugin.__version__}\n" in metadata
    assert "License: Apache-2.0\n" in metadata
    assert {"Requires-Python: >=3.10,<3.13", "Requires-Python: <3.13,>=3.10"} & set(metadata.splitlines())
    (tensorflow,) = (line for line in metadata.splitlines() if line.startswith("Requires-Dist: tensorflow"))
    assert "export" in tensorflow
    assert "mobilesr = mobilesr_plugin.cli.main:main" in commands
    assert "mobilesr-export = mobilesr_plugin.cli.main:export_main" in commands


def test_every_requirement_is_pinned() -> None:
    pins = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line and not line.startswith("#")
    }
    named = {_name(line) for line in requires("mobilesr-plugin") or []}
    assert named <= pins, named - pins


def _name(requirement: str) -> str:
    for index, letter in enumerate(requirement):
        if not (letter.isalnum() or letter in "-_."):
            return requirement[:index].lower().replace("_", "-")
    return requirement.lower()


def test_both_tensorboards_are_of_one_series() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    versions = dict(
        line.split("==") for line in text.splitlines() if line.startswith(("tb-nightly", "tensorboard="))
    )
    series = {version.rsplit(".", 1)[0] for version in versions.values()}
    assert len(versions) == 2
    assert len(series) == 1, versions
