"""Versions of everything that takes part in a measurement or an export."""

from __future__ import annotations

import importlib.metadata
import platform

from mobilesr_plugin import __version__

PACKAGES = ("torch", "basicsr", "onnx", "onnx2tf", "tensorflow", "ai-edge-litert", "onnxruntime")


def versions() -> dict[str, str]:
    """Returns the versions of the plugin, of Python and of the installed PACKAGES."""
    found = {"mobilesr-plugin": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
