"""The documents: every command is run or covered, every snippet runs, keys, links and paths are true.

Each command line in README.md and docs/ is in one of the tables below. A new one needs an entry.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from data_fixtures import hr_folder
from host_fixtures import ROOT, environment, stated
from test_export import save_checkpoint
from test_layers import FLOORS
from test_reference import FLOAT, PUBLISHED_PTQ

from mobilesr_plugin.data.cache_options import CacheOptions
from mobilesr_plugin.data.demo import TRAINING, VALIDATION
from mobilesr_plugin.data.images import read_image
from mobilesr_plugin.graph import int8
from mobilesr_plugin.graph.ops import QParams
from mobilesr_plugin.options import (
    ExportOptions,
    QuantizationOptions,
    SpeedOptions,
    TFLiteOptions,
    parse_block,
)
from mobilesr_plugin.quantization.kernels import tflite_builtin, xnnpack
from mobilesr_plugin.runtimes import TFLiteRunner

DOCS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
BIN = Path(sys.executable).parent

# Run here, in this order, in one folder; the text is what the last line of the output must hold.
RUN = {
    "mobilesr data demo": "datasets/demo/valid_LR_bicubic/X4: 4 images, made",
    "mobilesr data prepare --hr DIV2K_train_HR --scale 3 --out datasets/DIV2K": (
        "datasets/DIV2K/DIV2K_train_LR_bicubic_X3.lmdb: 1 images, made"
    ),
    "mobilesr data prepare --hr DIV2K_valid_HR --scale 3 --out datasets/DIV2K --as valid": (
        "datasets/DIV2K/DIV2K_valid_LR_bicubic/X3: 1 images, made"
    ),
    "mobilesr data prepare --hr Set5 --scale 3 --out datasets/Set5 --as benchmark": (
        "datasets/Set5/LRbicx3: 1 images, made"
    ),
    "mobilesr-export --ckpt experiments/demo_abpn_x3_qat/models/net_g_latest.pth": "report.md  verified",
    "mobilesr-export --ckpt experiments/demo_abpn_x3/models/net_g_latest.pth "
    "--calib datasets/demo/train_LR_bicubic_X3_sub.lmdb --size 120x160 --out ptq": "ptq/report.md  verified",
    "mobilesr bench latency ptq/abpn_x3_int8_120x160.tflite ptq/abpn_x3_fp32.tflite --size 120x160": (
        "| abpn_x3_fp32.tflite |"
    ),
    "mobilesr bench latency experiments/demo_abpn_x3_qat/export/abpn_x3_int8_360x640.tflite "
    "experiments/demo_abpn_x3_qat/export/abpn_x3_fp32.tflite": "| abpn_x3_fp32.tflite |",
}
# Run here without the data sets that they need: what the one line on stderr must hold.
NEEDS_DATA = {
    "python basicsr/train.py -opt options/abpn_x3.yml": (
        "datasets/DIV2K/DIV2K_train_HR.lmdb does not exist; "
        "make it with `mobilesr data prepare --hr DIR --scale 3 --out datasets/DIV2K`"
    ),
    "python basicsr/train.py -opt options/abpn_x3_qat.yml": (
        "datasets/DIV2K/DIV2K_train_HR.lmdb does not exist; "
        "make it with `mobilesr data prepare --hr DIR --scale 3 --out datasets/DIV2K`"
    ),
    "python basicsr/test.py -opt options/abpn_x3_test.yml": (
        "datasets/Set5/GTmod12 does not exist; "
        "make it with `mobilesr data prepare --hr DIR --scale 3 --out datasets/Set5 --as benchmark`"
    ),
    "python basicsr/test.py -opt options/abpn_x3_test.yml --force_yml model_type=QATSRModel "
    "path:pretrain_network_g=experiments/abpn_x3_qat/models/net_g_latest.pth": "datasets/Set5/GTmod12",
    "python basicsr/test.py -opt options/abpn_x3_tflite_test.yml": "datasets/Set5/GTmod12 does not exist",
}
# Steps of `make demo`.
DEMO = {
    "python basicsr/train.py -opt options/demo/abpn_x3.yml",
    "python basicsr/train.py -opt options/demo/abpn_x3_qat.yml",
    "python basicsr/test.py -opt options/demo/abpn_x3_tflite_test.yml",
    "mobilesr report experiments/demo_abpn_x3_qat --out demo/abpn_x3.html",
    "mobilesr upscale datasets/demo/valid_HR/chelsea.png --model experiments/demo_abpn_x3_qat/export/"
    "abpn_x3_int8.tflite --out demo/abpn_x3_chelsea.png --overwrite",
    "python basicsr/train.py -opt options/demo/sesr_m5_x2.yml",
    "python basicsr/train.py -opt options/demo/sesr_m5_x2_qat.yml",
    "mobilesr-export --ckpt experiments/demo_sesr_m5_x2_qat/models/net_g_latest.pth",
    "python basicsr/test.py -opt options/demo/sesr_m5_x2_tflite_test.yml",
    "mobilesr report experiments/demo_sesr_m5_x2_qat --out demo/sesr_m5_x2.html",
    "mobilesr upscale datasets/demo/valid_HR/chelsea.png --model experiments/demo_sesr_m5_x2_qat/export/"
    "sesr_m5_x2_int8.tflite --out demo/sesr_m5_x2_chelsea.png --overwrite",
}
# Run by another test, with other data or other names.
TESTED = {
    "python basicsr/train.py -opt options/abpn_x3.yml --auto_resume": (
        "tests/test_host_training.py::test_auto_resume_continues_on_cpu"
    ),
    "torchrun --nproc_per_node 2 basicsr/train.py -opt options/abpn_x3.yml --launcher pytorch": (
        "tests/test_host_training.py::test_two_processes_train_over_gloo"
    ),
    "python tools/make_options.py": "tests/test_options.py::test_generated_files_are_up_to_date",
    "mobilesr bench latency published_360x640.tflite "
    "experiments/abpn_x3_qat/export/abpn_x3_int8_360x640.tflite --runs 31": (
        "tests/test_export.py::test_latency_table"
    ),
    "mobilesr bench latency experiments/abpn_x3_qat/export/abpn_x3_int8_360x640.tflite --per-op": (
        "tests/test_bench_latency.py::test_tables"
    ),
    "mobilesr bench latency experiments/abpn_x3_qat/export/abpn_x3_int8_360x640.tflite --npu ethos-u65-512": (
        "tests/test_bench_latency.py::test_tables"
    ),
    "mobilesr bench nodes --size 360x640 --out nodes.md nodes.png": (
        "tests/test_bench_nodes.py::test_the_command_writes_tables_and_a_plot"
    ),
    "pip install '.[npu]'": "tests/test_bench_latency.py::test_vela_is_not_installed",
    "mobilesr bench accuracy --data Set5/HR Set14/HR --protocol rgb_crop1 y_crop_scale --out accuracy.json "
    "--model experiments/abpn_x3_qat/models/net_g_latest.pth "
    "experiments/abpn_x3_qat/export/abpn_x3_int8.tflite": "tests/test_bench_accuracy.py::test_command",
    "python tools/write_benchmarks.py accuracy.json --section abpn_x3_published": (
        "tests/test_bench_accuracy.py::test_documents_get_the_table"
    ),
    "mobilesr import tf-abpn SR_Mobile_Quantization/experiment/base7_D4C28_bs16ps64_lr1e-3/best_status "
    "--out abpn_x3.pth": "tests/test_importers.py::test_imported_abpn_exports_without_an_option_file",
    "mobilesr import tf-sesr logs/x2_models/SESR_m5_f16_x2_fs256_collapsedTraining_FP32 "
    "--out sesr_m5_x2.pth": "tests/test_importers.py::test_sesr",
    "mobilesr import srvgg realesr-animevideov3.pth --out srvgg_x4.pth": (
        "tests/test_importers.py::test_srvgg"
    ),
    "mobilesr-export --ckpt abpn_x3.pth --calib datasets/demo/train_LR_bicubic_X3_sub.lmdb": (
        "tests/test_importers.py::test_imported_abpn_exports_without_an_option_file"
    ),
    "mobilesr report experiments/demo_abpn_x3_qat": "tests/test_report_html.py::test_commands",
    "mobilesr report experiments/abpn_x3_qat --data Set5/HR Set14/HR": (
        "tests/test_report_html.py::test_commands"
    ),
    "mobilesr upscale photo.jpg --model experiments/demo_abpn_x3_qat/export/abpn_x3_int8.tflite": (
        "tests/test_upscale.py::test_formats"
    ),
    "mobilesr upscale photos 'more/*.png' clip.mp4 "
    "--model experiments/demo_abpn_x3_qat/models/net_g_latest.pth --out large": (
        "tests/test_upscale_video.py::test_pictures_and_videos_mixed"
    ),
    "python tools/bench_upscale.py experiments/abpn_x3_qat/export/abpn_x3_int8_360x640.tflite": (
        "tests/test_upscale_video.py::test_the_benchmark_measures_both"
    ),
    "mobilesr bench training --gt datasets/demo/train_HR_sub.lmdb "
    "--lq datasets/demo/train_LR_bicubic_X3_sub.lmdb": (
        "tests/test_bench_training.py::test_trainings_run_in_turn_and_are_compared"
    ),
    "mobilesr bench dataset --gt datasets/demo/train_HR_sub.lmdb "
    "--lq datasets/demo/train_LR_bicubic_X3_sub.lmdb": (
        "tests/test_bench_training.py::test_data_sets_are_compared"
    ),
    "mobilesr --install-completion": "tests/test_cli.py::test_completion_installs_in_bash",
    "mobilesr data options --out options": "tests/test_packaging.py::test_installed_option_files",
    "python -m basicsr.train -opt options/demo/abpn_x3.yml": (
        "tests/test_packaging.py::test_installed_option_files"
    ),
    **dict.fromkeys(
        (
            'echo "import: separable_arch.py" | tee separable_x2.yml > separable_x2_qat.yml',
            "sed 's/ABPN/SeparableNet/; s/abpn/separable/' options/demo/abpn_x2.yml >> separable_x2.yml",
            "sed 's/ABPN/SeparableNet/; s/abpn/separable/' options/demo/abpn_x2_qat.yml "
            ">> separable_x2_qat.yml",
            "python basicsr/train.py -opt separable_x2.yml --force_yml train:total_iter=100",
            "python basicsr/train.py -opt separable_x2_qat.yml --force_yml train:total_iter=50",
            "mobilesr-export --ckpt experiments/demo_separable_x2_qat/models/net_g_latest.pth "
            "--opt separable_x2_qat.yml --size 270x480",
        ),
        "tests/test_docs_architecture.py::test_the_example_ends_with_a_verified_file",
    ),
    "pip install '.[export]'": "tests/test_packaging.py::test_wheel_has_the_hook_in_its_root",
}
# The same as a command in RUN, for DIV2K instead of the demo.
WITHOUT_DEMO = {
    "mobilesr-export --ckpt experiments/abpn_x3_qat/models/net_g_latest.pth",
}
# `make` itself, and what `make install` does: the text must be in the Makefile.
MAKE = {
    "make demo": "\ndemo:",
    "make test": "\ntest:",
    "make test-faults": "\ntest-faults:",
    "make bench": "\nbench:",
    "make bench-real-size": "\nbench-real-size:",
    'make bench-sesr DATA="Set5/HR Set14/HR Urban100_first20/HR"': "\nbench-sesr:",
    'make bench-parity DATA="Set5/HR Set14/HR DIV2K_valid_crop256/HR Urban100_first20/HR"': "\nbench-parity:",
    "make bench-accuracy DATA=../shared/data REFERENCE=../shared/reference": "\nbench-accuracy:",
    "make install": "\ninstall:",
    "source .venv/bin/activate": "-m venv .venv",
    "pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu": (
        "CPU_INDEX := https://download.pytorch.org/whl/cpu"
    ),
}


@dataclasses.dataclass(frozen=True)
class Fence:
    """A fenced block of a document."""

    file: str
    language: str
    title: str
    text: str


@cache
def fences() -> list[Fence]:
    found = []
    for path in DOCS:
        name = str(path.relative_to(ROOT))
        pattern = r'^```(\w*)(?: title="([^"]*)")?\n(.*?)^```$'
        for match in re.finditer(pattern, path.read_text(), re.MULTILINE | re.DOTALL):
            found.append(Fence(name, match[1], match[2] or "", match[3]))
    return found


def blocks(file: str, language: str) -> list[str]:
    return [fence.text for fence in fences() if (fence.file, fence.language) == (file, language)]


def commands() -> list[tuple[str, str]]:
    """(file, command) of every command line, continued lines joined, each once for a file.

    Those of docs/cli.md are examples of the help: tests/test_cli.py parses each, and runs every command.
    """
    found = []
    for fence in fences():
        if fence.language not in ("bash", "console", "sh", "shell") or fence.file == "docs/cli.md":
            continue
        for line in fence.text.replace("\\\n", " ").splitlines():
            command = " ".join(line.split())
            if fence.language == "console":
                if not command.startswith("$ "):
                    continue  # what the command prints
                command = command.removeprefix("$ ")
            if command and not command.startswith("#"):
                found.append((fence.file, command))
    return sorted(set(found))


def table(file: str, head: str) -> list[list[str]]:
    """Rows of the table whose first line begins with ``head``, without backticks."""
    lines = (ROOT / file).read_text().splitlines()
    (start,) = (number for number, line in enumerate(lines) if line.startswith(head))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
    return rows


def shell(command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", "")])
    return subprocess.run(
        ["bash", "-c", command],
        cwd=cwd,
        env=environment(PATH=path, COLUMNS="200"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def with_scripts(folder: Path) -> Path:
    """A folder in which BasicSR's scripts and the option files lie as in the repository's root."""
    for name in ("basicsr", "options"):
        (folder / name).symlink_to(ROOT / name)
    return folder


class Workspace:
    """A folder in which the commands of RUN are run in order, each once and only when asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = with_scripts(folder)
        self.done: dict[str, subprocess.CompletedProcess[str]] = {}
        for name in ("DIV2K_train_HR", "DIV2K_valid_HR", "Set5"):
            hr_folder(folder / name, count=1, height=300, width=300)
        for name, quantized in (("demo_abpn_x3", False), ("demo_abpn_x3_qat", True)):
            ckpt = folder / "experiments" / name / "models" / "net_g_latest.pth"
            save_checkpoint(ckpt, 3, quantized=quantized)

    def result(self, command: str) -> subprocess.CompletedProcess[str]:
        order = list(RUN)
        for earlier in order[: order.index(command) + 1]:
            if earlier not in self.done:
                self.done[earlier] = shell(earlier, self.folder)
        return self.done[command]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("workspace"))


# Commands


def test_every_command_is_covered() -> None:
    known = {*RUN, *NEEDS_DATA, *DEMO, *TESTED, *WITHOUT_DEMO, *MAKE}
    shown = commands()
    uncovered = [f"{file}: {command}" for file, command in shown if command not in known]
    assert not uncovered, "say in tests/test_docs.py how these are covered"
    assert not known - {command for _, command in shown}, "no document shows these any more"


@pytest.mark.slow
@pytest.mark.parametrize("command", RUN)
def test_command_runs(workspace: Workspace, command: str) -> None:
    done = workspace.result(command)
    assert done.returncode == 0, done.stderr
    assert RUN[command] in done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_commands_on_missing_data_say_how_to_make_it(tmp_path: Path) -> None:
    folder = with_scripts(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda command: shell(command, folder), NEEDS_DATA))
    for (command, expected), done in zip(NEEDS_DATA.items(), results, strict=True):
        assert done.returncode == 1, command
        (line,) = stated(done)
        assert expected in line, command
        (options,) = re.findall(r"-opt (\S+)", command)
        assert (ROOT / options).is_file()
    assert {path.name for path in folder.iterdir()} == {"basicsr", "options"}  # nothing was written


@pytest.fixture(scope="module")
def demo() -> Any:
    """tools/demo.py."""
    spec = importlib.util.spec_from_file_location("demo", ROOT / "tools" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo"] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def test_demo_runs_these_commands(demo: Any) -> None:
    steps = {
        arch: [demo.DATA[1], *(command for _, command in demos[0].steps)]
        for arch, demos in demo.DEMOS.items()
    }
    assert {*steps["abpn"], *steps["sesr"]} >= DEMO
    for arch, file, number in (
        ("abpn", "docs/quickstart.md", None),
        ("abpn", "README.md", 5),
        ("sesr", "docs/sesr.md", None),
    ):
        shown = [block for block in blocks(file, "bash") if demo.DATA[1] in block]
        lines = re.sub(r" *\\\n *", " ", shown[0]).splitlines()
        assert lines == steps[arch][:number], file


def test_figures_of_the_demo(demo: Any) -> None:
    page = (ROOT / "docs/quickstart.md").read_text()
    for name in ("abpn_x3", "abpn_x3_qat"):
        opt = yaml.safe_load((ROOT / f"options/demo/{name}.yml").read_text())
        assert f"{opt['train']['total_iter']:,} iterations" in page
    assert f"than {demo.GAIN} dB over bicubic" in " ".join(page.split())
    assert (len(TRAINING), len(VALIDATION)) == (10, 4)
    assert "Ten are cut into tiles" in page
    assert "four are kept for validation" in " ".join(page.split())


def test_figures_of_the_published_network() -> None:
    rows = {row[0]: row[1:] for row in table("README.md", "| | Set5 ")}
    assert rows["published weights, float"] == [f"{rgb:.3f}" for rgb, _ in FLOAT.values()]
    published = [f"{value:.3f}" for value in PUBLISHED_PTQ.values()]
    assert rows["published int8 file, post-training"] == published
    (compared,) = re.findall(r"0 of ([\d,]+) output values", (ROOT / "README.md").read_text())
    assert f"compared == {compared.replace(',', '_')}" in (ROOT / "tests/test_reference.py").read_text()


@pytest.mark.parametrize("command", TESTED)
def test_command_is_run_by_a_test(command: str) -> None:
    file, name = TESTED[command].split("::")
    functions = [node.name for node in ast.parse((ROOT / file).read_text()).body if _is_function(node)]
    assert name in functions


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef)


def test_other_commands() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for command, text in MAKE.items():
        assert text in makefile, command
    for target, _ in table("CONTRIBUTING.md", "| target "):
        assert f"\n{target.removeprefix('make ')}:" in makefile
    assert {command.replace("demo_", "") for command in RUN} >= WITHOUT_DEMO


# Snippets


@pytest.mark.slow
def test_snippet_of_export_gives_the_devices_pixels(workspace: Workspace) -> None:
    export = next(command for command in RUN if "demo_abpn_x3_qat" in command)
    assert workspace.result(export).returncode == 0
    (snippet,) = blocks("docs/export.md", "python")
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=workspace.folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    device = TFLiteRunner(workspace.folder / "experiments/demo_abpn_x3_qat/export/abpn_x3_int8.tflite")
    image = read_image(workspace.folder / "datasets/demo/valid_LR_bicubic/X3/chelsea.png")
    assert np.array_equal(read_image(workspace.folder / "chelsea_x3.png"), device(image[None])[0])


@pytest.mark.slow
def test_snippet_of_android_reads_the_contract(workspace: Workspace) -> None:
    export = next(command for command in RUN if "demo_abpn_x3_qat" in command)
    assert workspace.result(export).returncode == 0
    (snippet,) = blocks("docs/android.md", "python")
    done = subprocess.run(
        [sys.executable, "-c", f"{snippet}\nprint(*contract)"],
        cwd=workspace.folder,
        capture_output=True,
        text=True,
    )
    printed, keys = done.stdout.splitlines()
    assert printed == "uint8 3 ['xnnpack', 'tflite_builtin']", done.stderr
    documented = ", ".join(row[0] for row in table("docs/android.md", "| key ")).split(", ")
    assert sorted(keys.split()) == sorted(documented)


@pytest.mark.slow
def test_snippet_of_training_registers() -> None:
    (snippet,) = blocks("docs/training.md", "python")
    check = "from basicsr.utils.registry import MODEL_REGISTRY; assert 'QATSRModel' in MODEL_REGISTRY"
    done = subprocess.run(
        [sys.executable, "-c", f"{snippet}\n{check}"],
        env=environment(MOBILESR_AUTOLOAD="0"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def scheme() -> dict[str, Any]:
    """The functions of docs/quantization.md."""
    names: dict[str, Any] = {}
    for block in blocks("docs/quantization.md", "python"):
        exec(compile(block, "docs/quantization.md", "exec"), names)
    return names


@pytest.mark.parametrize("seed", range(5))
def test_documented_scheme_is_the_implemented_one(scheme: dict[str, Any], seed: int) -> None:
    generator = np.random.default_rng(seed)

    def some_range() -> tuple[np.float32, int]:
        low, high = generator.normal(-0.5, 1), generator.normal(1.5, 1)
        scale, zero_point = scheme["activation_qparams"](low, high)
        assert QParams(float(scale), zero_point) == int8.qparams_of_range(low, high)
        return scale, zero_point

    s_in, z_in = some_range()
    weight = generator.normal(0, 0.2, (6, 4, 3, 3)).astype(np.float32)
    weight[5] = 0
    codes, s_w = scheme["quantize_weights"](weight)
    assert np.array_equal(codes, int8.quantize_weight(weight))
    assert np.array_equal(s_w, int8.weight_scales(weight))
    bias = generator.normal(0, 0.1, 6).astype(np.float32)
    bias[5] = 0  # as its weights: the scheme refuses a bias that dwarfs them
    assert np.array_equal(
        scheme["quantize_biases"](bias, s_in, z_in, s_w),
        int8.quantize_bias(bias, QParams(float(s_in), z_in), s_w),
    )


@pytest.mark.parametrize("seed", range(5))
def test_documented_kernels_are_the_implemented_ones(scheme: dict[str, Any], seed: int) -> None:
    import torch

    generator = np.random.default_rng(seed)
    source, other, out = (
        int8.qparams_of_range(-generator.exponential(), generator.exponential()) for _ in range(3)
    )
    (s_in, z_in), (s_other, z_other), (s_out, z_out) = ((q.scale, q.zero_point) for q in (source, other, out))
    channels = 11
    s_w = generator.exponential(1 / 64, channels)
    slopes = generator.uniform(-0.1, 0.6, channels).astype(np.float32)
    sums = generator.integers(-(2**16), 2**16, (1, 20, 20, channels))
    left, right = generator.integers(-128, 128, (2, 1, 15, 20, channels)).astype(np.int8)

    def codes(layer: torch.nn.Module, *inputs: np.ndarray, z_out: int = z_out) -> np.ndarray:
        """What a layer makes of centred integers in (N, H, W, C)."""
        tensors = [torch.from_numpy(value.astype(np.float32)).permute(0, 3, 1, 2) for value in inputs]
        return layer(*tensors).permute(0, 2, 3, 1).numpy() + z_out

    def centred(q: np.ndarray, zero_point: int) -> np.ndarray:
        return q.astype(int) - zero_point

    def same(documented: np.ndarray, ours: np.ndarray) -> bool:
        return documented.dtype == np.int8 and np.array_equal(documented, ours)

    for kernels, suffix in ((xnnpack, ""), (tflite_builtin, "_builtin")):
        for relu in (False, True):
            for depthwise in (False, True):
                layer = kernels.requantization(
                    source, s_w, out, relu=relu, depthwise=depthwise, bound=float(2**16)
                )
                extra = {"depthwise": depthwise} if suffix else {}
                documented = scheme[f"requantize{suffix}"](sums, s_in, s_w, s_out, z_out, relu, **extra)
                assert same(documented, codes(layer, sums))
            for second in (right, right[..., :1]):
                layer = kernels.addition(source, other, out, relu=relu)
                ours = codes(layer, centred(left, z_in), centred(second, z_other))
                arguments = (left, s_in, z_in, second, s_other, z_other, s_out, z_out, relu)
                assert same(scheme[f"add{suffix}"](*arguments), ours)
        layer = kernels.leaky_relu(source, out, 0.2)
        documented = scheme[f"leaky_relu{suffix}"](left, s_in, z_in, 0.2, s_out, z_out)
        assert same(documented, codes(layer, centred(left, z_in)))
        for factor in (2, 3, 4):
            layer = kernels.resize_bilinear(source, factor, fixed_size=True)
            documented = scheme[f"resize_bilinear{suffix}"](left, factor)
            assert same(documented, codes(layer, centred(left, z_in), z_out=z_in))
        layer = kernels.relu(source, out)
        assert same(scheme["relu_builtin"](left, s_in, z_in, s_out, z_out), codes(layer, centred(left, z_in)))
        layer = kernels.prelu(source, out, slopes)
        documented = scheme["prelu_builtin"](left, s_in, z_in, slopes, s_out, z_out)
        assert same(documented, codes(layer, centred(left, z_in)))


def test_yaml_blocks_are_valid() -> None:
    known = {
        "quantization": QuantizationOptions,
        "export": ExportOptions,
        "tflite": TFLiteOptions,
        "speed": SpeedOptions,
    }
    shown = [yaml.safe_load(fence.text) for fence in fences() if fence.language == "yaml"]
    assert {key for block in shown for key in block} == {*known, "network_g"}
    for block in shown:
        for key in block.keys() - {"network_g"}:  # that one is in tests/test_docs_architecture.py
            assert parse_block(block, key, known[key]) == known[key](), "documents show the defaults"


# Tables


@pytest.mark.parametrize(
    ("file", "head", "block"),
    [
        ("docs/quantization.md", "| key ", QuantizationOptions),
        ("docs/export.md", "| key ", ExportOptions),
        ("docs/training-speed.md", "| key |", CacheOptions),
        ("docs/training-speed.md", "| key of `speed` ", SpeedOptions),
    ],
)
def test_option_keys(file: str, head: str, block: type) -> None:
    rows = {key: yaml.safe_load(default) for key, default, _ in table(file, head)}
    fields = {field.name: field.default for field in dataclasses.fields(block)}
    assert list(rows) == list(fields)
    assert {key: tuple(v) if isinstance(v, list) else v for key, v in rows.items()} == fields


@pytest.mark.slow
def test_fields_of_the_report(workspace: Workspace) -> None:
    export = next(command for command in RUN if "demo_abpn_x3_qat" in command)
    assert workspace.result(export).returncode == 0
    folder = workspace.folder / "experiments/demo_abpn_x3_qat/export"
    report = json.loads((folder / "report.json").read_text())
    assert [row[0] for row in table("docs/export.md", "| field ")] == list(report)
    names = " ".join(row[0] for row in table("docs/export.md", "| file "))
    for path in folder.iterdir():
        pattern = path.name.replace("abpn_x3", "<name>").replace("360x640", "<H>x<W>")
        assert pattern in names


def test_floors_are_those_of_the_test() -> None:
    rows = table("ARCHITECTURE.md", "| floor ")
    documented = {name: int(floor.removeprefix("F")) for floor, name, _ in rows}
    documented[""] = documented.pop("mobilesr_plugin/__init__.py")
    assert documented == FLOORS


def test_option_files_are_there() -> None:
    for name, _ in table("docs/training.md", "| file "):
        assert (ROOT / name).exists()


# Messages


def test_messages_are_those_of_the_code() -> None:
    """Messages in docs/troubleshooting.md, with an ellipsis for what varies, are in the source."""
    source = "\n".join(_texts())
    page = (ROOT / "docs/troubleshooting.md").read_text().split("\n## Environment")[0]
    shown = [span for line in re.findall(r"^- (`.*)", page, re.MULTILINE) for span in _leading_spans(line)]
    assert len(shown) > 40
    for message in shown:
        pattern = ".*".join(re.escape(part) for part in message.split("…"))
        assert re.search(pattern, source), message


def _leading_spans(line: str) -> list[str]:
    return re.findall(r"`([^`]+)`", line.split("`: ")[0] + "`")


def _texts() -> list[str]:
    """Every string in the package on one line, with an ellipsis for what is formatted in."""
    found = []
    for path in (ROOT / "mobilesr_plugin").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values]
                found.append(" ".join("".join(parts).split()))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(" ".join(node.value.split()))
    return found


# Links and paths


def prose(path: Path) -> str:
    return re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), target
        if anchor:
            assert anchor in _anchors(linked), target


def _anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_paths_exist(path: Path) -> None:
    for span in re.findall(r"`([^`\n]+)`", prose(path)):
        if re.fullmatch(r"(mobilesr_plugin|options|tools|tests|docs|basicsr|\.ci)/[\w./*-]*", span):
            assert list(ROOT.glob(span.rstrip("/"))), span


def test_documents_stand_for_themselves() -> None:
    for path in DOCS:
        for line in path.read_text().splitlines():
            assert not re.search(r"[`( ]/(home|root|work|tmp|opt)\b", line), line
            if "shared/" in line:
                assert "../shared/data" in line, line
