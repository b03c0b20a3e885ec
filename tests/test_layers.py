"""The floors of ARCHITECTURE.md: a module imports only from lower ones."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "mobilesr_plugin"

FLOORS = {  # "" is mobilesr_plugin/__init__.py
    **dict.fromkeys(
        ["errors", "atomic_file", "colour", "cpus", "free_memory", "native_output", "torch_files", ""], 0
    ),
    **dict.fromkeys(["options", "option_files", "side_by_side", "extensions", "registered"], 1),
    **dict.fromkeys(["host", "versions", "processor", "tflite_probe"], 1),
    **dict.fromkeys(["archs", "config", "data", "graph"], 2),
    "quantization": 3,
    "checkpoint": 4,
    **dict.fromkeys(["runtimes", "tflite_model"], 4),
    "networks_from_files": 5,
    "models": 5,
    "export": 5,
    "importers": 5,
    **dict.fromkeys(["verify", "bench", "upscaling"], 6),
    **dict.fromkeys(["report", "model_card"], 7),
    "pipeline": 8,
    **dict.fromkeys(["export_hook", "html_report"], 9),
    "cli": 10,
}
# Who may import these packages, and only inside functions.
HEAVY = {
    "onnx": ("export/onnx_file.py", "runtimes.py", "upscaling/field_of_onnx.py"),
    "onnx2tf": ("export/tflite_file.py",),
    "tensorflow": ("bench/node_graphs.py", "export/tflite_file.py", "importers/tensorflow_source.py"),
}
# host starts what lies above it, by name and only when BasicSR is imported.
STARTER = "host"


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Full names imported by a file, and whether at module level."""
    tree = ast.parse(path.read_text())
    checked = {id(node) for branch in ast.walk(tree) if _type_checking(branch) for node in ast.walk(branch)}
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if id(node) in checked:
            continue
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from ((name, id(node) not in inside) for name in names)


def _type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def floor_of(name: str) -> int | None:
    """Floor of a dotted name below mobilesr_plugin; None for names that are no module."""
    parts = name.split(".")
    return FLOORS.get(parts[1]) if len(parts) > 1 else None


def unit(path: Path) -> str:
    """Package or module on the top level of mobilesr_plugin that a file belongs to."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem.replace("__init__", "")


def test_imports_come_from_lower_floors() -> None:
    wrong = []
    for path in modules():
        own = unit(path)
        assert own in FLOORS, f"{own} has no floor yet: add it here and to ARCHITECTURE.md"
        if own in (STARTER, ""):
            continue
        for name, _ in imports(path):
            floor = floor_of(name) if name.startswith("mobilesr_plugin.") else None
            if floor is not None and name.split(".")[1] != own and floor >= FLOORS[own]:
                wrong.append(f"{path.relative_to(PACKAGE)} (floor {FLOORS[own]}): {name} (floor {floor})")
    assert not wrong


def test_heavy_packages_stay_where_they_belong() -> None:
    wrong = []
    for path in modules():
        relative = str(path.relative_to(PACKAGE))
        for name, at_module_level in imports(path):
            allowed = HEAVY.get(name.split(".")[0])
            if allowed is not None and (relative not in allowed or at_module_level):
                wrong.append(f"{relative}: {name}")
    assert not wrong


def test_one_idea_per_file() -> None:
    assert [path.name for path in modules() if len(path.read_text().splitlines()) > 300] == []


def test_networks_know_nothing_of_export() -> None:
    for path in (PACKAGE / "archs").glob("*.py"):
        text = path.read_text().lower()
        assert not any(word in text for word in ("onnx", "tflite", "import quantiz"))


@pytest.mark.parametrize("statement", ["import mobilesr_plugin", "import mobilesr_plugin.cli.main"])
def test_importing_is_light(statement: str) -> None:
    """Neither the package nor the command line's help may wait for torch."""
    code = f"{statement}; import sys; print([m for m in ('torch', 'basicsr', 'cv2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_print_only_in_the_command_line() -> None:
    for path in modules():
        if unit(path) != "cli":
            calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            assert not any(isinstance(c.func, ast.Name) and c.func.id == "print" for c in calls), path
