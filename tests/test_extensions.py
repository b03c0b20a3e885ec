"""`import:` of an option file: networks of the user's own, in training's checks and in every command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import networks  # registers the plugin
import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY

from mobilesr_plugin import checkpoint
from mobilesr_plugin.errors import CheckpointError, OptionError
from mobilesr_plugin.extensions import load_extensions

NETWORK = """
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn
{more}
@ARCH_REGISTRY.register()
class {name}(nn.Module):
    def __init__(self, num_in_ch=3, num_out_ch=3, upscale=2):
        super().__init__()
        self.body = nn.Conv2d(num_in_ch, num_out_ch * upscale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(upscale)

    def forward(self, x):
        return self.shuffle(self.body(x)).clamp(0, 1)
"""
OPTIONS = "import: {file}\nscale: 2\nnetwork_g: {{type: {name}, num_in_ch: 3, num_out_ch: 3, upscale: 2}}\n"


@pytest.fixture(autouse=True)
def _own_imports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


def write_network(path: Path, name: str, more: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(NETWORK.format(name=name, more=more))


def write_checkpoint(folder: Path, name: str, *, described: bool) -> Path:
    """Writes weights of the network above; building it needs no file of it."""
    generator = torch.Generator().manual_seed(0)
    weights = {
        "body.weight": 0.1 * torch.randn(12, 3, 3, 3, generator=generator),
        "body.bias": torch.rand(12, generator=generator),
    }
    content: dict[str, Any] = {"params": weights}
    if described:
        network_g = {"type": name, "num_in_ch": 3, "num_out_ch": 3, "upscale": 2}
        content["mobilesr"] = checkpoint.describe({"network_g": network_g, "scale": 2})
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(content, folder / "net_g_latest.pth")
    return folder / "net_g_latest.pth"


def cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mobilesr_plugin.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})


def test_a_file_is_imported_once_with_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "helper_of_first.py").write_text("WIDTH = 7\n")
    write_network(tmp_path / "nets" / "first_own_arch.py", "FirstOwn", "import helper_of_first")
    load_extensions("nets/first_own_arch.py")
    assert networks and "FirstOwn" in ARCH_REGISTRY
    assert sys.modules["helper_of_first"].WIDTH == 7
    first = ARCH_REGISTRY.get("FirstOwn")
    load_extensions([str(tmp_path / "nets" / "first_own_arch.py"), "first_own_arch", "json"])
    assert ARCH_REGISTRY.get("FirstOwn") is first  # registering it twice would have failed


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("absent.py", r"import: absent\.py does not exist \(working directory: .*must be the path"),
        (["absent_module"], r"there is no module absent_module"),
        ("json.absent", r"there is no module json\.absent"),
        (5, r"import: 5; it must be the path"),
        ([""], r"import: ''; it must be"),
        ("types.py", r"types\.py has the name of another module \(.*types\.py\); rename"),
        (
            "fails_at_three.py",
            r"failed \(.*fails_at_three\.py, line 3\): ZeroDivisionError: division by zero",
        ),
        ("is_no_python.py", r"failed \(.*is_no_python\.py, line 1\): SyntaxError"),
        ("wants_absent.py", r"failed \(.*wants_absent\.py, line 1\): ModuleNotFoundError: .*'absent_helper'"),
    ],
)
def test_what_cannot_be_imported(tmp_path: Path, named: object, message: str) -> None:
    (tmp_path / "types.py").write_text("")
    (tmp_path / "fails_at_three.py").write_text("\nzero = 0\nprint(1 / zero)\n")
    (tmp_path / "is_no_python.py").write_text("def\n")
    (tmp_path / "wants_absent.py").write_text("import absent_helper\n")
    with pytest.raises(OptionError, match=message) as caught:
        load_extensions(named)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("described", [True, False])
def test_a_checkpoint_decides_nothing(tmp_path: Path, described: bool) -> None:
    """What lies beside a checkpoint is not run; the user's --opt is."""
    name = f"OwnDescribed{described}"
    file = tmp_path / f"own_described_{described}.py".lower()
    write_network(file, name, "open('was_run', 'w').close()")
    ckpt = write_checkpoint(tmp_path / "models", name, described=described)
    options = tmp_path / "train.yml"
    options.write_text(OPTIONS.format(file=file.name, name=name))
    with pytest.raises(CheckpointError, match=rf"the network {name}, which is not known.*--opt.*`import:"):
        checkpoint.restore(ckpt)
    assert not (tmp_path / "was_run").exists()
    restored = checkpoint.restore(ckpt, options)
    assert (tmp_path / "was_run").exists()
    assert type(restored.float_network).__name__ == name
    assert (restored.scale, restored.name) == (2, f"{name.lower()}_x2")


@pytest.mark.parametrize("text", ["network_g: OwnNet\n", "network_g:\n", "scale: 2\n", "just text\n"])
def test_option_files_without_a_network(tmp_path: Path, text: str) -> None:
    ckpt = write_checkpoint(tmp_path / "models", "Undescribed", described=False)
    (tmp_path / "own.yml").write_text(text)
    with pytest.raises(CheckpointError, match=r"own\.yml has no block network_g; give the option file"):
        checkpoint.restore(ckpt, tmp_path / "own.yml")


@pytest.mark.slow
def test_commands(tmp_path: Path) -> None:
    write_network(tmp_path / "own_of_commands.py", "OwnOfCommands")
    ckpt = write_checkpoint(tmp_path / "models", "OwnOfCommands", described=True)
    (tmp_path / "own.yml").write_text(OPTIONS.format(file="own_of_commands.py", name="OwnOfCommands"))
    command = ("bench", "latency", ckpt, "--size", "16x24", "--runs", "3")
    refused = cli(*command)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "OwnOfCommands, which is not known here" in refused.stderr
    timed = cli(*command, "--opt", tmp_path / "own.yml", "--json")
    assert timed.returncode == 0, timed.stderr
    assert '"peak_bytes": ' in timed.stdout
    assert '"peak_bytes": null' not in timed.stdout
