"""What commands do with damaged input, full disks and Ctrl-C: one line, exit code 1, nothing half-written.

The same for pictures and videos to upscale is in test_upscale.py and test_upscale_video.py, for data sets in
test_data_*.py, for an interrupted export in test_export.py, for training in test_host_training.py.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from data_fixtures import hr_folder
from host_fixtures import environment
from test_export import Export, exported, save_checkpoint
from test_importers import srvgg

from mobilesr_plugin.cli.main import main

__all__ = ["exported"]  # a fixture

COMMAND = [sys.executable, "-m", "mobilesr_plugin.cli"]
SMALL = ["--size", "24x32", "--runs", "3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints, pictures, and halves of them; ``empty`` and ``words`` hold no image."""
    folder = tmp_path_factory.mktemp("input")
    hr_folder(folder / "hr", count=2, height=60, width=80)
    save_checkpoint(folder / "good.pth", 2, quantized=True)
    save_checkpoint(folder / "float.pth", 2, quantized=False)
    srvgg(folder / "srvgg.pth")
    content = (folder / "good.pth").read_bytes()
    for name, share in (("half", 0.5), ("tenth", 0.1), ("nearly", 0.999)):
        (folder / f"{name}.pth").write_bytes(content[: int(share * len(content))])
    for name in ("damaged", "empty", "words"):
        (folder / name).mkdir()
    picture = (folder / "hr" / "0001.png").read_bytes()
    (folder / "damaged" / "a.png").write_bytes(picture[: len(picture) // 2])
    (folder / "words" / "notes.txt").write_text("no image")
    for suffix in ("tflite", "onnx", "pth"):
        (folder / f"text.{suffix}").write_text("<html>not found</html>")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def failure(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The last line that a command says, which fails with exit code 1 and prints no result."""
    with pytest.raises(SystemExit) as done:
        main(list(map(str, arguments)))
    out, err = capsys.readouterr()
    assert (done.value.code, out) == (1, "")
    lines = [line for line in err.splitlines() if not line.startswith("failed: ")]
    assert len(lines) == 1, err
    return lines[0]


# Damaged files


@pytest.mark.parametrize("name", ["half.pth", "tenth.pth", "nearly.pth", "text.pth"])
@pytest.mark.parametrize(
    "command",
    [
        ["export", "--out", "new", "--ckpt"],
        ["import", "srvgg", "--out", "new.pth"],
        ["bench", "latency", *SMALL],
        ["bench", "accuracy", "--data", "hr", "--model"],
        ["upscale", "hr", "--out", "new", "--model"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_half_downloaded_checkpoint(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    name: str,
) -> None:
    monkeypatch.chdir(folder)
    before = tree(folder)
    said = failure(capsys, *command, name)
    what = "is not a checkpoint, or is damaged" if name == "text.pth" else "is truncated or damaged"
    assert said == f"mobilesr: {name} {what}; copy or train it again"
    assert tree(folder) == before


@pytest.mark.parametrize("kind", ["half", "text"])
@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_a_half_downloaded_network(
    folder: Path,
    exported: Export,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    suffix: str,
    kind: str,
) -> None:
    path = folder / f"text.{suffix}"
    if kind == "half":
        content = (exported(3).folder / f"abpn_x3{'_int8' * (suffix == 'tflite')}.{suffix}").read_bytes()
        path = tmp_path / f"half.{suffix}"
        path.write_bytes(content[: len(content) // 2])
    for command in (["bench", "latency", *SMALL], ["bench", "accuracy", "--data", folder / "hr", "--model"]):
        said = failure(capsys, *command, path)
        assert said.startswith(f"mobilesr: {path} is not a")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("damaged", "damaged/a.png: is damaged (image file is truncated)"),
        ("empty", "empty holds no image"),
        ("words", "words holds no image"),
        ("missing", "missing"),
    ],
)
def test_folders_without_usable_images(
    folder: Path,
    exported: Export,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    data: str,
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    before = tree(folder)
    for command in (
        ["report", exported(3).folder, "--no-latency", "--out", "new.html", "--data", data],
        ["export", "--ckpt", "float.pth", "--out", "new", "--calib", data],
        ["bench", "accuracy", "--model", "good.pth", "--out", "new.json", "--data", data],
    ):
        assert message in failure(capsys, *command)
    assert tree(folder) == before


# Arguments and descriptions

DESCRIPTIONS = {
    "argument.yml": "network_g: {type: ABPN, upscale: 2, foo: 1}",
    "scale_text.yml": "network_g: {type: ABPN, upscale: x}",
    "width_text.yml": "network_g: {type: ABPN, upscale: 2, num_feat: abc}",
    "width_negative.yml": "network_g: {type: ABPN, upscale: 2, num_feat: -5}",
    "residual.yml": "network_g: {type: ABPN, upscale: 2, residual: none2}",
    "missing.yml": "network_g: {type: RRDBNet}",
    "type_list.yml": "network_g: {type: [1]}",
    "type_missing.yml": "network_g: {upscale: 2}",
    "network_number.yml": "network_g: 5",
    "scale_word.yml": "scale: two\nnetwork_g: {type: ABPN, upscale: 2}",
    "blocks.yml": "network_g: {type: ABPN, upscale: 2, num_block: 9}",
    "quantization.yml": "quantization: 5\nnetwork_g: {type: ABPN, upscale: 2}",
    "import.yml": "import: 5\nnetwork_g: {type: ABPN, upscale: 2}",
    "list.yml": "- 1",
    "tab.yml": "a:\n\t- b",
}
ENTRIES = {
    "number.pth": {"params": {"a": torch.ones(2)}, "mobilesr": {"network_g": 5, "scale": 2}},
    "nothing.pth": {"params": {"a": torch.ones(2)}, "mobilesr": {"scale": 2}},
    "word.pth": {"params": {"a": torch.ones(2)}, "mobilesr": {"network_g": {"type": "ABPN"}, "scale": "x"}},
    "text.pth": {"params": {"a": torch.ones(2)}, "mobilesr": "ABPN"},
    "key.pth": {"params": {1: torch.ones(2)}},
    "tensor.pth": torch.ones(2),
}
EXPORT = "export --out new --ckpt good.pth"
# Words of a command, and what its only line says.
WRONG = [
    (
        f"{EXPORT} --opt argument.yml",
        "argument.yml: network_g (ABPN): unknown key 'foo'; Known keys: num",
    ),
    (f"{EXPORT} --opt scale_text.yml", "scale_text.yml: network_g (ABPN) cannot be built with upscale: 'x'"),
    (f"{EXPORT} --opt width_text.yml", "cannot be built with upscale: 2, num_feat: 'abc': TypeError"),
    (f"{EXPORT} --opt width_negative.yml", "RuntimeError: Trying to create tensor with negative dimension"),
    (f"{EXPORT} --opt residual.yml", "ABPN: residual is 'none2'; it must be one of anchor"),
    (f"{EXPORT} --opt missing.yml", "network_g (RRDBNet): num_in_ch is missing"),
    (f"{EXPORT} --opt type_list.yml", "type_list.yml is of the network [1], which is not known here"),
    (f"{EXPORT} --opt type_missing.yml", "type_missing.yml is of the network None"),
    (f"{EXPORT} --opt network_number.yml", "network_number.yml has no block network_g"),
    (f"{EXPORT} --opt scale_word.yml", "scale is 'two'; it must be an integer of at least 1"),
    (f"{EXPORT} --opt blocks.yml", "good.pth holds the weights of another network"),
    (f"{EXPORT} --opt quantization.yml", "quantization: is 5; it must be a block of keys"),
    (f"{EXPORT} --opt import.yml", "import: 5; it must be the path of a .py file"),
    (f"{EXPORT} --opt list.yml", "list.yml has no block network_g"),
    (f"{EXPORT} --opt tab.yml", "tab.yml is not valid YAML"),
    (f"{EXPORT} --opt nowhere.yml", "nowhere.yml cannot be read: No such file or directory"),
    (f"{EXPORT} --opt hr", "hr cannot be read: Is a directory"),
    ("export --out new --ckpt hr", "hr cannot be read: Is a directory"),
    ("export --out new --ckpt number.pth", "number.pth: network_g is 5; it must be a block of keys"),
    ("export --out new --ckpt nothing.pth", "nothing.pth: network_g is None; it must be a block of keys"),
    ("export --out new --ckpt word.pth", "word.pth: scale is 'x'; it must be an integer of at least 1"),
    ("export --out new --ckpt text.pth", "text.pth does not describe its network"),
    ("export --out new --ckpt key.pth --opt argument.yml", "argument.yml: network_g (ABPN): unknown key"),
    ("export --out new --ckpt tensor.pth", "tensor.pth holds a Tensor; expected a dict"),
    ("export --ckpt good.pth --out srvgg.pth", "srvgg.pth cannot be written: File exists"),
    ("export --ckpt good.pth --out srvgg.pth/x", "srvgg.pth/x cannot be written: Not a directory"),
    (f"{EXPORT} --size 0x0", "size is '0x0'; it must be HEIGHTxWIDTH"),
    (f"{EXPORT} --size 3x-4", "size is '3x-4'; it must be HEIGHTxWIDTH"),
    (f"{EXPORT} --size ²x3", "size is '²x3'; it must be HEIGHTxWIDTH"),
    (f"{EXPORT} --size 99999x99999", "size 99999x99999 is too large"),
    (f"{EXPORT} --size 99999999999999x99999999", "size 99999999999999x99999999 is too large"),
    (f"{EXPORT} --kernels foo", "kernels is 'foo'; it must be one of xnnpack, tflite_builtin"),
    (f"{EXPORT} --io foo", "io is 'foo'; it must be one of uint8, int8, float32"),
    ("export --out new --ckpt float.pth --calib good.pth", "good.pth is not a folder"),
    ("import srvgg hr --out new.pth", "hr cannot be read: Is a directory"),
    ("import srvgg nowhere --out new.pth", "nowhere does not exist"),
    ("import srvgg good.pth --out new.pth", "good.pth does not hold SRVGGNetCompact"),
    ("import srvgg number.pth --out new.pth", "number.pth does not hold SRVGGNetCompact"),
    ("import srvgg key.pth --out new.pth", "key.pth: entry 'params' does not hold weights"),
    ("import srvgg srvgg.pth --out hr", "hr is a folder; give the path of a .pth file to write"),
    ("import srvgg srvgg.pth --out nowhere/x.pth", "nowhere/x.pth cannot be written"),
    ("import srvgg srvgg.pth --out new.pth --act-type foo", "--act-type is foo"),
    ("import tf-abpn good.pth --out new.pth", "good.pth is not a TensorFlow checkpoint"),
    ("import tf-sesr empty --out new.pth", "empty holds no TensorFlow checkpoint"),
    ("bench latency hr", "hr is no .tflite or .onnx file"),
    ("bench latency good.pth --size 99999x99999 --runs 3", "size 99999x99999 is too large"),
    ("bench latency good.pth --kernels foo", "kernels is 'foo'; it must be one of xnnpack, tflite_builtin"),
    ("bench latency good.pth --runs 0", "runs is 0; a median needs at least 3"),
    ("bench accuracy --data hr --model good.pth --opt argument.yml", "unknown key 'foo'"),
    ("report nowhere", "nowhere"),
    ("report empty", "empty is neither an experiment nor an export"),
    ("report good.pth", "good.pth"),
    ("upscale nowhere --model good.pth --out new", "nowhere"),
    ("upscale hr --model nowhere.pth --out new", "nowhere.pth does not exist"),
    ("upscale empty --model good.pth --out new", "empty"),
    ("upscale hr --model good.pth --out srvgg.pth", "srvgg.pth"),
    ("data options --out good.pth", "good.pth"),
    ("data options --out good.pth/x", "good.pth/x"),
    ("data prepare --hr nowhere --scale 2 --out new", "nowhere"),
    ("data prepare --hr empty --scale 2 --out new", "empty"),
    ("data demo --out good.pth", "good.pth"),
]


@pytest.fixture(scope="module")
def described(folder: Path) -> Path:
    """The folder, with descriptions of networks that make no sense."""
    for name, text in DESCRIPTIONS.items():
        (folder / name).write_text(text, encoding="utf-8")
    for name, entries in ENTRIES.items():
        torch.save(entries, folder / name)
    return folder


@pytest.mark.parametrize(("words", "expected"), WRONG, ids=[words for words, _ in WRONG])
def test_wrong_arguments_and_descriptions(
    described: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    expected: str,
) -> None:
    monkeypatch.chdir(described)
    before = tree(described)
    assert expected in failure(capsys, *words.split())
    assert tree(described) == before


# Places that cannot be written, and paths that are hard to write down

WRITERS = {
    "export": "export --ckpt good.pth --size 24x32 --out {}/new",
    "import": "import srvgg srvgg.pth --out {}/new.pth",
    "report": "report exported --no-latency --data hr --out {}/new.html",
    "upscale": "upscale hr --model good.pth --out {}/new",
}


@pytest.mark.parametrize("command", WRITERS)
def test_a_full_disk(
    folder: Path,
    exported: Export,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    """A file system of 300 kB with 3 kB left, so that folders can be made and files cannot be finished."""
    work, disk = prepared(folder, exported, tmp_path), tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user cannot mount a file system")
    try:
        free = shutil.disk_usage(disk).free
        (disk / "filler").write_bytes(bytes(free - 4096))
        monkeypatch.chdir(work)
        said = failure(capsys, *WRITERS[command].format(disk).split())
        assert "No space left on device" in said
        left = [path for path in disk.rglob("*") if path.is_file() and path.name != "filler"]
        assert left == []
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("command", WRITERS)
def test_a_read_only_disk(
    folder: Path,
    exported: Export,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    work, disk = prepared(folder, exported, tmp_path), tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user cannot mount a file system")
    try:
        monkeypatch.chdir(work)
        assert "Read-only file system" in failure(capsys, *WRITERS[command].format(disk).split())
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.slow
def test_paths_with_spaces_line_breaks_and_other_letters(
    folder: Path,
    exported: Export,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    odd = tmp_path / "zwei Wörter\nund 超解像"
    shutil.copytree(folder / "hr", odd / "hr")
    shutil.copytree(exported(3).folder, odd / "exported")
    for name in ("good.pth", "srvgg.pth"):
        shutil.copy(folder / name, odd / name)
    monkeypatch.chdir(tmp_path)
    for command in (
        [
            "export",
            "--ckpt",
            odd / "good.pth",
            "--out",
            odd / "new",
            "--size",
            "24x32",
            "--kernels",
            "xnnpack",
        ],
        ["import", "srvgg", odd / "srvgg.pth", "--out", odd / "new.pth"],
        ["report", odd / "exported", "--no-latency", "--data", odd / "hr", "--out", odd / "new.html"],
        ["upscale", odd / "hr", "--model", odd / "exported" / "abpn_x3_int8.tflite", "--out", odd / "large"],
    ):
        with pytest.raises(SystemExit) as done:
            main(list(map(str, command)))
        assert not done.value.code, capsys.readouterr().err
    assert json.loads((odd / "new" / "report.json").read_text(encoding="utf-8"))["verified"] is True
    assert (odd / "new.pth").is_file()
    assert (odd / "new.html").is_file()
    assert len(list((odd / "large").glob("*.png"))) == 2
    capsys.readouterr()
    said = failure(capsys, "export", "--ckpt", odd / "nowhere.pth")
    assert "zwei Wörter\\nund 超解像/nowhere.pth does not exist" in said


# A disk that fills up: no file may grow beyond a limit


@pytest.mark.parametrize(
    ("limit", "arguments", "kept"),
    [
        (20_000, "export --ckpt good.pth --size 24x32 --out new", []),
        pytest.param(3_000, "import srvgg srvgg.pth --out new.pth", [], marks=pytest.mark.slow),
        pytest.param(
            20_000, "report exported --no-latency --data hr --out new.html", [], marks=pytest.mark.slow
        ),
        pytest.param(
            100, "bench accuracy --model good.pth --data hr --out new.json", [], marks=pytest.mark.slow
        ),
        (3_000, "data options --out new", ["abpn_x2.yml"]),  # the next file is larger
        pytest.param(40_000, "data demo --out new --scale 3", [], marks=pytest.mark.slow),
    ],
    ids=lambda value: value.split(" --")[0] if isinstance(value, str) else "",
)
def test_a_disk_that_fills_up(
    folder: Path, exported: Export, tmp_path: Path, limit: int, arguments: str, kept: list[str]
) -> None:
    work = prepared(folder, exported, tmp_path)
    before = tree(tmp_path)
    done = subprocess.run(
        [*COMMAND, *arguments.split()],
        cwd=work,
        env=environment(TMPDIR=str(tmp_path / "scratch")),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("mobilesr: ")
    assert " cannot be written: File too large" in done.stderr
    assert done.stderr.count("\n") == 1
    assert {name.rpartition("/")[2] for name in set(tree(tmp_path)) - set(before)} == set(kept)


def prepared(folder: Path, exported: Export, tmp_path: Path) -> Path:
    """A working folder below ``tmp_path``, beside an empty one for temporary files."""
    (tmp_path / "scratch").mkdir()
    work = tmp_path / "work"
    shutil.copytree(folder, work)
    shutil.copytree(exported(3).folder, work / "exported")
    return work


# Ctrl-C


def interrupted(arguments: str, work: Path, started: Callable[[], bool]) -> str:
    """Sends Ctrl-C as soon as the work has started; returns the last line of standard error."""
    process = subprocess.Popen(
        [*COMMAND, *arguments.split()],
        cwd=work,
        env=environment(TMPDIR=str(work.parent / "scratch")),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests may run in the background
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while not started():
        assert time.monotonic() < until
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "Traceback" not in err
    return err.splitlines()[-1]


def test_ctrl_c_in_a_report(folder: Path, exported: Export, tmp_path: Path) -> None:
    work = prepared(folder, exported, tmp_path)
    scratch = tmp_path / "scratch"
    before = tree(work)
    said = interrupted("report exported", work, lambda: bool(list(scratch.glob("tmp*/photographs/*"))))
    assert said.startswith("mobilesr: interrupted; no file is left half-written")
    assert tree(work) == before
    assert not list(scratch.glob("tmp*"))


@pytest.mark.slow
def test_ctrl_c_in_the_demo_set(folder: Path, exported: Export, tmp_path: Path) -> None:
    """What was finished stays, and the next run completes it."""
    work = prepared(folder, exported, tmp_path)
    out = work / "demo"
    arguments = "data demo --out demo --scale 3"
    said = interrupted(arguments, work, lambda: out.exists() and bool(list(out.iterdir())))
    assert said.startswith("mobilesr: interrupted")
    for path in out.rglob("*.png"):
        assert path.read_bytes().endswith(b"IEND\xaeB`\x82")
    again = subprocess.run([*COMMAND, *arguments.split()], cwd=work, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1] == "demo/valid_LR_bicubic/X3: 4 images, made"
    assert not list(out.rglob("*.partial"))
