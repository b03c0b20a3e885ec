"""The import hook: wakes mobilesr-plugin when BasicSR is imported, and costs nothing otherwise.

Installation copies this file to site-packages as ``mobilesr_autoload.py`` beside a .pth file that
imports it in every Python start. So it must use only modules that Python has loaded by then, must not
import mobilesr_plugin at its top, and must never raise. ``MOBILESR_AUTOLOAD=0`` switches it off.
"""

import os
import sys

TYPE_CHECKING = False  # `typing` is not loaded this early; type checkers know this name
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class BasicSRFinder:
    """Waits on ``sys.meta_path`` for ``basicsr``, then steps aside."""

    @classmethod
    def find_spec(
        cls, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        """Find BasicSR as Python would, with our two calls around the run of its body."""
        if name != "basicsr":
            return None
        cls.leave()
        from importlib.util import find_spec

        spec = find_spec(name)
        # A folder without __init__.py has no origin: not BasicSR itself, so keep waiting.
        if spec is None or spec.origin is None or spec.loader is None:
            cls.wait()
            return spec
        plugin = find_spec("mobilesr_plugin")
        if plugin is not None and plugin.origin is not None:
            cls.surround(spec.loader)
        return spec

    @classmethod
    def wait(cls) -> None:
        """Take the first place among Python's finders."""
        if cls not in sys.meta_path:
            sys.meta_path.insert(0, cls)

    @classmethod
    def leave(cls) -> None:
        """Leave Python's finders."""
        if cls in sys.meta_path:
            sys.meta_path.remove(cls)

    @classmethod
    def surround(cls, loader: "Loader") -> None:
        """Let ``loader`` call the plugin before and after it runs the module's body."""
        run_body = loader.exec_module

        def exec_module(module: "ModuleType") -> None:
            from mobilesr_plugin.host import activation

            try:
                activation.before_basicsr()
                run_body(module)
                activation.after_basicsr()
            except BaseException:
                cls.wait()  # BasicSR is not imported now: be there for the next attempt
                raise

        loader.exec_module = exec_module  # type: ignore[method-assign]


# Compared by name: this file may be present twice, installed and as mobilesr_plugin.host.autoload.
_waiting = any(getattr(finder, "__name__", "") == "BasicSRFinder" for finder in sys.meta_path)
if __name__ == "mobilesr_autoload" and not _waiting and os.environ.get("MOBILESR_AUTOLOAD") != "0":
    BasicSRFinder.wait()
