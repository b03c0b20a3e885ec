"""Packaging of mobilesr-plugin: the import hook that wakes it when BasicSR is imported, and option files.

The hook is two files that must lie in site-packages itself: ``mobilesr_autoload.pth``, one line that
Python runs when it starts, and ``mobilesr_autoload.py``, which that line imports. setuptools has no
option for such files, so two of its commands are extended: ``build_py`` puts them into a wheel, and
``editable_wheel`` puts them into the wheel of an editable install.

``build_py`` also copies the option files in ``options/`` to ``mobilesr_plugin/option_files``, where
``mobilesr data options`` finds them; in an editable install it finds the originals.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).resolve().parent
OPTIONS = ROOT / "options"
HOOK = {
    "mobilesr_autoload.py": (ROOT / "mobilesr_plugin/host/autoload.py").read_text(encoding="utf-8"),
    "mobilesr_autoload.pth": "import mobilesr_autoload\n",
}

BASE = [
    "torch>=2.6",
    "torchvision>=0.21",
    "basicsr>=1.4.2,<1.5",
    "numpy>=1.26",
    "opencv-python>=4.9",
    "scipy>=1.11",
    "scikit-image>=0.22",
    "pillow>=10.1",
    "lmdb>=1.4",
    "filelock>=3.16",
    "pyyaml>=6",
    "pydantic>=2",
    "psutil>=5.9",
    "tqdm>=4.66",
    "jinja2>=3.1",
    "typer>=0.29",
    "rich>=13",
]
# onnx2tf pins its own dependencies exactly, and the export replaces one of its handlers: keep to the
# series that the tests ran with.
EXPORT = [
    "onnx>=1.17,<1.20",
    "onnx2tf>=1.29.24,<1.30",
    "onnxruntime>=1.18",
    "tensorflow>=2.19,<2.20",
    "ai-edge-litert>=2.1,<2.2",
]
# Arm's compiler Vela, for `mobilesr bench latency --npu`.
NPU = ["ethos-u-vela>=5.2,<6"]
VIDEO = ["av>=17"]  # `mobilesr upscale` on videos
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.6,<10"]  # `make docs`
DEV = [
    *VIDEO,
    "build>=1.2",
    "twine>=6",
    "pytest>=8",
    "pytest-xdist>=3.6",
    "ruff>=0.15",
    "mypy>=1.15",
    "types-PyYAML>=6",
    "types-tqdm>=4.66",
    "setuptools>=77",
    "playwright>=1.49",  # drives the Chromium that is installed; brings none
]


class BuildWithFiles(build_py):
    """``build_py`` that also writes the import hook beside the package, and the option files into it."""

    def run(self) -> None:
        super().run()
        for target, content in self._extra().items():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content, encoding="utf-8", newline="")

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *map(str, self._extra())]

    def _extra(self) -> dict[Path, str]:
        """Content of the files that are no part of a package folder, by their path in the build."""
        if self.editable_mode:
            return {}
        root = Path(self.build_lib)
        folder = root / "mobilesr_plugin" / "option_files"
        options = {folder / path.relative_to(OPTIONS): path for path in sorted(OPTIONS.rglob("*.yml"))}
        if not options:
            raise RuntimeError(f"{OPTIONS} holds no option files; build from a whole source tree")
        files = {target: path.read_text(encoding="utf-8") for target, path in options.items()}
        return files | {root / name: text for name, text in HOOK.items()}


class EditableWithHook(editable_wheel):
    """``editable_wheel`` that also writes the import hook into its wheel."""

    def _select_strategy(self, name: str, tag: str, build_lib: Any) -> Any:
        return _StrategyWithHook(super()._select_strategy(name, tag, build_lib))


class _StrategyWithHook:
    """Whatever setuptools does for an editable install, and then the hook."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __enter__(self) -> _StrategyWithHook:
        self.inner.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        self.inner.__exit__(*failure)

    def __call__(self, wheel: Any, files: list[str], mapping: dict[str, str]) -> None:
        self.inner(wheel, files, mapping)
        for name, text in HOOK.items():
            wheel.writestr(name, text)


def read_version() -> str:
    """Read the version without importing the package, which may lack its dependencies here."""
    text = (ROOT / "mobilesr_plugin/__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise RuntimeError('mobilesr_plugin/__init__.py has no line `__version__ = "..."`')
    return found.group(1)


def read_description() -> str:
    """Read README.md, which a partial source tree may lack."""
    readme = ROOT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.exists() else ""


setup(
    name="mobilesr-plugin",
    version=read_version(),
    description="Super-resolution from PyTorch to a phone, inside BasicSR: train, quantize, export, verify.",
    long_description=read_description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10,<3.13",
    # "" -> "." makes an editable install a plain path entry instead of an import finder, which would cost
    # several milliseconds in every Python start.
    package_dir={"": "."},
    packages=find_packages(include=["mobilesr_plugin", "mobilesr_plugin.*"]),
    package_data={"mobilesr_plugin": ["py.typed", "templates/*"]},
    install_requires=BASE,
    extras_require={"export": EXPORT, "video": VIDEO, "npu": NPU, "docs": DOCS, "dev": DEV},
    entry_points={
        "console_scripts": [
            "mobilesr = mobilesr_plugin.cli.main:main",
            "mobilesr-export = mobilesr_plugin.cli.main:export_main",
        ]
    },
    cmdclass={"build_py": BuildWithFiles, "editable_wheel": EditableWithHook},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Image Processing",
        "Typing :: Typed",
    ],
)
