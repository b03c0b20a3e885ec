"""The import hook: there, cheap, and out of the way."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.metadata import files
from pathlib import Path

import pytest
from host_fixtures import ROOT, environment, run

HOOK = ROOT / "mobilesr_plugin" / "host" / "autoload.py"


def bare(folder: Path, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code in a Python that sees ``folder`` and the standard library only."""
    prelude = f"import sys; sys.path.insert(0, {str(folder)!r})\n"
    return subprocess.run(
        [sys.executable, "-S", "-c", prelude + code],
        cwd=folder,
        env={**environment(**variables), "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the hook and a BasicSR of one line."""
    shutil.copy(HOOK, tmp_path / "mobilesr_autoload.py")
    (tmp_path / "basicsr").mkdir()
    (tmp_path / "basicsr/__init__.py").write_text("print('body')\n", encoding="utf-8")
    return tmp_path


def add_plugin(folder: Path, activation: str) -> None:
    (folder / "mobilesr_plugin/host").mkdir(parents=True)
    (folder / "mobilesr_plugin/__init__.py").touch()
    (folder / "mobilesr_plugin/host/__init__.py").touch()
    (folder / "mobilesr_plugin/host/activation.py").write_text(activation, encoding="utf-8")


def test_installed_hook_is_this_file() -> None:
    installed = {path.name: path for path in files("mobilesr-plugin") or []}
    assert installed["mobilesr_autoload.pth"].read_text() == "import mobilesr_autoload\n"
    assert installed["mobilesr_autoload.py"].read_text() == HOOK.read_text(encoding="utf-8")


def test_start_costs_less_than_a_millisecond(tmp_path: Path) -> None:
    times = []
    for _ in range(5):
        report = run("-X", "importtime", "-c", "pass", cwd=tmp_path).stderr
        found = re.search(r"\|\s+(\d+) \|\s+mobilesr_autoload", report)
        assert found, "the hook did not run in a Python start"
        times.append(int(found.group(1)))
    assert min(times) < 1000, f"microseconds: {times}"


def test_start_imports_nothing_else(tmp_path: Path) -> None:
    code = "import sys; print([m for m in sys.modules if m.split('.')[0] in ('mobilesr_plugin', 'basicsr')])"
    assert run("-c", code, cwd=tmp_path).stdout.strip() == "[]"


def test_hook_surrounds_the_body_and_leaves(folder: Path) -> None:
    add_plugin(
        folder,
        "def before_basicsr(): print('before')\ndef after_basicsr(): print('after')\n",
    )
    code = "import mobilesr_autoload as hook, basicsr; print(hook.BasicSRFinder in sys.meta_path)"
    assert bare(folder, code).stdout.split() == ["before", "body", "after", "False"]
    assert bare(folder, code, MOBILESR_AUTOLOAD="0").stdout.split() == ["body", "False"]


def test_without_the_plugin_basicsr_is_imported_as_ever(folder: Path) -> None:
    (folder / "mobilesr_plugin/host").mkdir(parents=True)  # what pip leaves behind where there was a cache
    process = bare(folder, "import mobilesr_autoload, basicsr")
    assert (process.stdout.split(), process.stderr) == (["body"], "")


def test_a_broken_plugin_shows_its_own_error_and_spares_the_start(folder: Path) -> None:
    add_plugin(folder, "import nonsense_of_ours\n")
    process = bare(folder, "import mobilesr_autoload; print('started'); import basicsr")
    assert process.stdout.split() == ["started"]
    assert "No module named 'nonsense_of_ours'" in process.stderr


def test_hook_is_there_again_after_a_failed_import(folder: Path) -> None:
    add_plugin(
        folder,
        "def before_basicsr(): print('before')\ndef after_basicsr(): print('after')\n",
    )
    (folder / "basicsr/__init__.py").write_text(
        "import sys; assert sys.argv[-1] == 'well'\n", encoding="utf-8"
    )
    code = (
        "import mobilesr_autoload\n"
        "try:\n import basicsr\nexcept AssertionError:\n print('failed')\n"
        "sys.argv.append('well')\nimport basicsr"
    )
    assert bare(folder, code).stdout.split() == ["before", "failed", "before", "after"]


def test_a_bare_folder_called_basicsr_is_not_basicsr(folder: Path) -> None:
    add_plugin(folder, "def before_basicsr(): print('before')\ndef after_basicsr(): pass\n")
    (folder / "basicsr/__init__.py").unlink()
    process = bare(
        folder, "import mobilesr_autoload as hook, basicsr; print(hook.BasicSRFinder in sys.meta_path)"
    )
    assert process.stdout.split() == ["True"], process.stderr


def test_checkout_does_not_shadow_basicsr() -> None:
    process = run("-c", "import importlib.util as u; print(u.find_spec('basicsr').origin)", cwd=ROOT)
    assert process.stdout.strip().endswith("__init__.py")
    assert not process.stdout.startswith(str(ROOT / "basicsr"))


@pytest.mark.parametrize(
    ("autoload", "imports"),
    [
        ("1", "import basicsr"),
        pytest.param("1", "import mobilesr_plugin.archs.abpn_arch", marks=pytest.mark.slow),
        pytest.param("1", "import mobilesr_plugin.models", marks=pytest.mark.slow),
        ("0", "import mobilesr_plugin; mobilesr_plugin.register(); mobilesr_plugin.register()"),
    ],
)
def test_every_way_of_importing_registers_all(tmp_path: Path, autoload: str, imports: str) -> None:
    code = (
        f"{imports}\n"
        "from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY\n"
        "import basicsr.train\n"
        "print('ABPN' in ARCH_REGISTRY, 'QATSRModel' in MODEL_REGISTRY)\n"
        "print(hasattr(basicsr.train.parse_options, '__wrapped__'))\n"
    )
    process = run("-c", code, cwd=tmp_path, MOBILESR_AUTOLOAD=autoload)
    assert process.stdout.split() == ["True"] * 3, process.stderr


def test_importing_the_package_is_light(tmp_path: Path) -> None:
    code = "import sys, mobilesr_plugin; print('torch' in sys.modules, 'basicsr' in sys.modules)"
    assert run("-c", code, cwd=tmp_path).stdout.split() == ["False", "False"]
