"""What pip installs: the package, its commands, option files and the import hook, from wheel and sdist."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
from host_fixtures import ROOT, environment

import mobilesr_plugin
from mobilesr_plugin.data.option_files import option_files

VERSION = mobilesr_plugin.__version__
TEMPLATES = ("model_card.md.jinja", "report.html.jinja", "report.css", "report.js")
UNTRACKED = shutil.ignore_patterns("__pycache__")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what packaging reads, because building writes into the source tree."""
    folder = tmp_path_factory.mktemp("source")
    for path in [*ROOT.glob("*.md"), *ROOT.glob("*.toml"), *ROOT.glob("*.txt")]:
        shutil.copy(path, folder)
    for name in ("setup.py", "LICENSE", "MANIFEST.in", "Makefile", "mkdocs.yml"):
        shutil.copy(ROOT / name, folder)
    for name in ("mobilesr_plugin", "basicsr", "options", "tests", "docs", "tools", ".ci"):
        shutil.copytree(ROOT / name, folder / name, ignore=UNTRACKED)
    return folder


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The source distribution, the wheel that ``python -m build`` makes of it, and an editable one."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ".", cwd=source)
    code = "import sys; from setuptools import build_meta; build_meta.build_editable(sys.argv[1])"
    (folder / "editable").mkdir()
    run(sys.executable, "-c", code, folder / "editable", cwd=source)
    names = {"sdist": "*.tar.gz", "wheel": "*.whl", "editable": "editable/*.whl"}
    return {kind: next(folder.glob(pattern)) for kind, pattern in names.items()}


@pytest.fixture(scope="module")
def clean(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``bin`` of an environment with the wheel; what it requires is found where this Python has it."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=False)
    install = ["install", "--no-deps", "--no-index", "--quiet", built["wheel"]]
    run(sys.executable, "-m", "pip", "--python", folder / "bin" / "python", *install, cwd=folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    # Searched last, and without the .pth files there: they would bring the editable install of this checkout.
    here = next(path for path in sys.path if path.endswith("site-packages"))
    (packages / "zz_requirements.pth").write_text(f"{here}\n", encoding="utf-8")
    return folder / "bin"


def run(*command: object, cwd: Path, code: int = 0) -> str:
    """Runs a command outside the checkout; returns what it prints."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**environment(), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + (done.stderr if code else "")


# What lies in the files


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_wheel_has_the_hook_in_its_root(built: dict[str, Path], kind: str) -> None:
    with zipfile.ZipFile(built[kind]) as wheel:
        names = wheel.namelist()
        assert wheel.read("mobilesr_autoload.pth") == b"import mobilesr_autoload\n"
        own = (ROOT / "mobilesr_plugin/host/autoload.py").read_bytes()
        assert wheel.read("mobilesr_autoload.py") == own
        (record,) = (name for name in names if name.endswith("/RECORD"))
        listed = wheel.read(record).decode()
    assert "mobilesr_autoload.pth," in listed  # so that pip uninstall removes it
    top = {name.split("/")[0] for name in names if ".dist-info" not in name}
    if kind == "wheel":
        assert top == {"mobilesr_plugin", "mobilesr_autoload.py", "mobilesr_autoload.pth"}
    else:
        # a plain path entry: an import finder would cost milliseconds in every Python start
        pth = f"__editable__.mobilesr_plugin-{VERSION}.pth"
        assert top == {pth, "mobilesr_autoload.py", "mobilesr_autoload.pth"}


def test_wheel_has_the_package_and_nothing_else(built: dict[str, Path]) -> None:
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "mobilesr_plugin").rglob("*.py")}
    expected = modules | {f"mobilesr_plugin/templates/{name}" for name in TEMPLATES}
    expected |= {"mobilesr_plugin/py.typed", "mobilesr_autoload.py", "mobilesr_autoload.pth"}
    options = {
        path.relative_to(ROOT / "options").as_posix(): path.read_bytes()
        for path in (ROOT / "options").rglob("*.yml")
    }
    expected |= {f"mobilesr_plugin/option_files/{name}" for name in options}
    with zipfile.ZipFile(built["wheel"]) as wheel:
        assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected
        for name, content in options.items():
            assert wheel.read(f"mobilesr_plugin/option_files/{name}") == content
        licence = wheel.read(f"mobilesr_plugin-{VERSION}.dist-info/licenses/LICENSE")
        assert licence == (ROOT / "LICENSE").read_bytes()


@pytest.mark.slow
def test_sdist_makes_the_same_wheel_as_the_checkout(
    source: Path, built: dict[str, Path], tmp_path: Path
) -> None:
    """``python -m build`` makes the wheel from the sdist; here is the one from the source tree."""
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    run(sys.executable, "-c", code, tmp_path, cwd=source)
    (direct,) = tmp_path.glob("*.whl")
    assert direct.name == built["wheel"].name
    with zipfile.ZipFile(direct) as one, zipfile.ZipFile(built["wheel"]) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())
        for name in one.namelist():
            if not name.endswith("/RECORD"):
                assert one.read(name) == other.read(name), name


def test_sdist_is_a_whole_checkout(built: dict[str, Path]) -> None:
    with tarfile.open(built["sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = ["constraints.txt", "Makefile", "LICENSE", ".ci/run", "mkdocs.yml", "basicsr/train.py"]
    for pattern in ("tests/*.py", "options/**/*.yml", "tools/*.py", "tools/*/*.yml", "docs/*.md", "*.md"):
        wanted += [path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern)]
    assert not set(wanted) - names
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pth", ".tflite"))]


def test_metadata(built: dict[str, Path]) -> None:
    folder = f"mobilesr_plugin-{VERSION}.dist-info"
    with zipfile.ZipFile(built["wheel"]) as wheel:
        metadata = wheel.read(f"{folder}/METADATA").decode()
        commands = wheel.read(f"{folder}/entry_points.txt").decode()
    head, _, description = metadata.partition("\n\n")
    assert f"Version: {VERSION}\n" in head
    assert "License: Apache-2.0\n" in head
    assert "License-File: LICENSE" in head
    assert "Description-Content-Type: text/markdown" in head
    assert description.strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()
    assert {"Requires-Python: >=3.10,<3.13", "Requires-Python: <3.13,>=3.10"} & set(head.splitlines())
    (tensorflow,) = (line for line in head.splitlines() if line.startswith("Requires-Dist: tensorflow"))
    assert "export" in tensorflow
    assert "mobilesr = mobilesr_plugin.cli.main:main" in commands
    assert "mobilesr-export = mobilesr_plugin.cli.main:export_main" in commands


def test_the_index_would_take_them(built: dict[str, Path], tmp_path: Path) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", built["wheel"], built["sdist"], cwd=tmp_path)


def test_version_is_in_one_place() -> None:
    assert f'__version__ = "{VERSION}"' in (ROOT / "mobilesr_plugin/__init__.py").read_text()
    for path in (ROOT / "setup.py", ROOT / "pyproject.toml"):
        assert VERSION not in path.read_text()


# In a clean environment


@pytest.mark.slow
def test_installed_commands(clean: Path, tmp_path: Path) -> None:
    where = "import mobilesr_plugin; print(mobilesr_plugin.__file__)"
    assert str(clean.parent) in run(clean / "python", "-c", where, cwd=tmp_path)
    assert run(clean / "mobilesr", "--version", cwd=tmp_path).strip() == VERSION
    assert "data options" in run(clean / "mobilesr", "--help", cwd=tmp_path)
    assert "--ckpt" in run(clean / "mobilesr-export", "--help", cwd=tmp_path)


@pytest.mark.slow
def test_installed_option_files(clean: Path, tmp_path: Path) -> None:
    said = run(clean / "mobilesr", "data", "options", "--out", "options", cwd=tmp_path).splitlines()
    written = {
        path.relative_to(tmp_path / "options").as_posix(): path.read_bytes()
        for path in (tmp_path / "options").rglob("*")
        if path.is_file()
    }
    assert written == option_files()
    assert said[-1] == "train next: python -m basicsr.train -opt options/demo/abpn_x3.yml"
    # The command that it names gets as far as the data, with the plugin's own words.
    command = said[-1].removeprefix("train next: python ").split()
    told = run(clean / "python", *command, cwd=tmp_path, code=1)
    assert "train_HR_sub.lmdb does not exist; make it with `mobilesr data demo`" in told


@pytest.mark.slow
def test_installed_demo_data(clean: Path, tmp_path: Path) -> None:
    said = run(clean / "mobilesr", "data", "demo", "--scale", "3", cwd=tmp_path)
    assert said.splitlines()[-1] == "datasets/demo/valid_LR_bicubic/X3: 4 images, made"


@pytest.mark.slow
def test_installed_hook_and_templates(clean: Path, tmp_path: Path) -> None:
    code = (
        "import basicsr; from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY\n"
        "import jinja2, mobilesr_plugin\n"
        "loader = jinja2.Environment(loader=jinja2.PackageLoader('mobilesr_plugin')).loader\n"
        "print('ABPN' in ARCH_REGISTRY, 'QATSRModel' in MODEL_REGISTRY, loader.list_templates())"
    )
    assert run(clean / "python", "-c", code, cwd=tmp_path).strip().endswith(f"True True {sorted(TEMPLATES)}")


@pytest.mark.slow
def test_installed_package_is_typed(clean: Path, tmp_path: Path) -> None:
    """A type checker takes the annotations of the installed package."""
    (tmp_path / "user.py").write_text(
        "from mobilesr_plugin.options import parse_size\nreveal_type(parse_size('2x3'))\n"
    )
    command = ["-m", "mypy", "--python-executable", clean / "python", "--follow-imports=silent"]
    told = run(sys.executable, *command, "--cache-dir=cache", "user.py", cwd=tmp_path)
    assert 'Revealed type is "tuple[int, int]"' in told.replace("builtins.", "")


# Requirements


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
