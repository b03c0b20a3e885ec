"""No POSIX-only call on the way of data, training, export and upscaling."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from data_fixtures import hr_folder
from host_fixtures import ROOT, environment

import mobilesr_plugin

PACKAGE = Path(mobilesr_plugin.__file__).parent

MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog", "crypt"}
# Python's documentation gives their availability as Unix, or as one kind of it.
NAMES = {
    "os": {
        *(
            "chown",
            "chroot",
            "confstr",
            "eventfd",
            "fchmod",
            "fchown",
            "fdatasync",
            "fork",
            "forkpty",
            "fstatvfs",
        ),
        *("getegid", "geteuid", "getgid", "getgroups", "getloadavg", "getpgid", "getpgrp", "getpriority"),
        *("getresuid", "getsid", "getuid", "getxattr", "killpg", "lchown", "lockf", "memfd_create", "mkfifo"),
        *("mknod", "nice", "openpty", "pathconf", "posix_fadvise", "posix_fallocate", "posix_spawn", "pread"),
        *("preadv", "pwrite", "pwritev", "sched_getaffinity", "sched_setaffinity", "sched_yield", "sendfile"),
        *("setgid", "setpgid", "setpriority", "setsid", "setuid", "setxattr", "splice", "statvfs", "sync"),
        *("sysconf", "ttyname", "uname", "wait", "wait3", "wait4", "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW"),
        *("O_NONBLOCK", "O_SYNC"),
    },
    "signal": {"SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGPIPE", "alarm", "pause"},
    "mmap": {"MAP_SHARED", "MAP_PRIVATE", "MAP_ANONYMOUS", "PROT_READ", "PROT_WRITE", "MADV_WILLNEED"},
}

# Those of ``os`` that are hidden while the package runs. Not all: Python's own library uses the others here.
HIDDEN = (
    *("geteuid", "getgid", "getuid", "memfd_create", "posix_fadvise", "posix_fallocate", "pread", "pwrite"),
    *("sched_getaffinity", "sched_setaffinity", "sysconf", "uname"),
)

# Run in a fresh process. Other packages are imported first: their Windows side is theirs to test.
WINDOWS_LIKE = """
import json, os, sys
import basicsr, cv2, lmdb, numpy, psutil, scipy, skimage, torch, yaml
from pathlib import Path

modules, names, hr, out = json.loads(sys.argv[1])
for module in modules:
    sys.modules[module] = None
for name in names:
    if hasattr(os, name):
        delattr(os, name)

torch.multiprocessing.set_start_method("spawn")  # the only one on Windows

from mobilesr_plugin.cli.main import main
def mobilesr(*arguments):
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as left:
        assert left.code == 0, (arguments, left.code)

out = Path(out)
os.chdir(out)
prepare = ["data", "prepare", "--hr", hr, "--scale", 2, "--workers", 1]
mobilesr(*prepare, "--out", "datasets/DIV2K")
mobilesr(*prepare, "--out", "datasets/Set5", "--as", "benchmark")
mobilesr("data", "options", "--out", "options", "--only", "abpn_x2.yml")
opt = yaml.safe_load(Path("options/abpn_x2.yml").read_text(encoding="utf-8"))
opt["datasets"] = {"train": {**opt["datasets"]["train"], "batch_size_per_gpu": 2, "num_worker_per_gpu": 1}}
del opt["val"]
opt["num_gpu"] = 0
opt["train"]["total_iter"] = 1
opt["logger"] |= {"print_freq": 1, "use_tb_logger": False}
Path("one.yml").write_text(yaml.safe_dump(opt, sort_keys=False), encoding="utf-8")
import mobilesr_plugin
mobilesr_plugin.register()
from basicsr.train import train_pipeline
sys.argv = ["train.py", "-opt", "one.yml"]
train_pipeline(".")
weights = "experiments/abpn_x2/models/net_g_latest.pth"
lr = next(Path("datasets/Set5/LRbicx2").glob("*.png"))
mobilesr("upscale", lr, "--model", weights, "--out", "large.png")
assert [path.suffix for path in Path("datasets/DIV2K/.mobilesr_cache").glob("*.images")] == [".images"]
height, width = cv2.imread(str(lr)).shape[:2]
assert cv2.imread("large.png").shape == (2 * height, 2 * width, 3)
print("done")
"""


@pytest.mark.slow
def test_data_training_and_upscaling_without_posix(tmp_path: Path) -> None:
    hr = hr_folder(tmp_path / "hr", count=2, height=260, width=280)
    hidden = json.dumps([sorted(MODULES - {"posix"}), HIDDEN, str(hr), str(tmp_path)])
    script = tmp_path / "run.py"
    script.write_text(f"if __name__ == '__main__':\n{_indented(WINDOWS_LIKE)}")
    process = subprocess.run(
        [sys.executable, str(script), hidden],
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert process.stdout.splitlines()[-1] == "done"


def _indented(code: str) -> str:
    return "".join(f"    {line}" if line.strip() else line for line in code.splitlines(keepends=True))


def posix_only(tree: ast.Module) -> Iterator[str]:
    """What a module names that Windows lacks, unless the module asks ``hasattr`` first."""
    asked = {
        node.args[1].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("hasattr", "getattr")
        and isinstance(node.args[1], ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            known = NAMES.get(node.module, set())
            yield from (f"{node.module}.{alias.name}" for alias in node.names if alias.name in known)
            if node.module in MODULES:
                yield node.module
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.attr in NAMES.get(node.value.id, set()) - asked
        ):
            yield f"{node.value.id}.{node.attr}"


def test_the_package_names_nothing_that_windows_lacks() -> None:
    found = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in PACKAGE.rglob("*.py")
        for name in posix_only(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert not found


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import fcntl", ["fcntl"]),
        ("from resource import getrlimit", ["resource"]),
        ("import os\nos.getuid()", ["os.getuid"]),
        ("from os import memfd_create", ["os.memfd_create"]),
        ("import os\nif hasattr(os, 'sync'):\n    os.sync()", []),
        ("import os, signal\nos.kill(1, signal.SIGKILL)", ["signal.SIGKILL"]),
        ("import os\nos.fsync(3)", []),
    ],
)
def test_the_search_finds_what_it_should(code: str, found: list[str]) -> None:
    assert list(posix_only(ast.parse(code))) == found
