"""Ends a training with an export, where its options have an ``export:`` block.

BasicSR has no hook for the end of training, but every model then calls ``save_training_state`` with
iteration -1, after its networks are written. Registered when BasicSR is imported.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from basicsr.models.base_model import BaseModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only

from mobilesr_plugin.errors import FinalExportError, MobileSRError
from mobilesr_plugin.options import ExportOptions, parse_block


@master_only
def export_after_training(model: BaseModel) -> None:
    """Exports ``net_g_latest.pth`` of a model whose options have an ``export:`` block.

    Raises:
        FinalExportError: the export failed, or a file is not verified; the line ends with the command that
            exports by hand. The checkpoint and the training state were written before.
    """
    opt = model.opt
    if opt.get("export") is None:
        return
    from mobilesr_plugin.pipeline import export

    logger = get_root_logger()
    options = parse_block(opt, "export", ExportOptions)
    ckpt = Path(opt["path"]["models"]) / "net_g_latest.pth"
    try:
        exported = export(ckpt, options, progress=logger.info)
    except MobileSRError as error:
        raise _failed(str(error), opt, ckpt, options) from error
    except Exception as error:
        logger.exception("The export failed; please report this.")  # a fault of ours, or of another package
        reason = " ".join(str(error).split())
        raise _failed(f"{type(error).__name__}: {reason}", opt, ckpt, options) from error
    int8 = {
        f"{name} on {kernels}": result["mismatched"]
        for kernels, files in exported.report["parity"].items()
        for name, result in files.items()
        if "_int8" in name
    }
    logger.info(f"Exported to {exported.folder}; values that differ from int8 validation: {int8}")


def _failed(reason: str, opt: Mapping[str, Any], ckpt: Path, options: ExportOptions) -> FinalExportError:
    from mobilesr_plugin.report import export_command

    # A network of the user's own is registered by `import:`, which is read from --opt only.
    copies = sorted(Path(opt["path"]["experiments_root"]).glob("*.yml")) if opt.get("import") else []
    command = export_command(ckpt, options, copies[-1] if copies else None)
    return FinalExportError(
        f"training is complete and saved in {ckpt}, but the export failed: {reason}; "
        f"to export by hand: {command}"
    )


def _install() -> None:
    original = BaseModel.save_training_state
    if hasattr(original, "exports_at_the_end"):
        return

    @functools.wraps(original)
    def save_training_state(self: BaseModel, epoch: int, current_iter: int) -> Any:
        original(self, epoch, current_iter)
        if current_iter == -1:
            export_after_training(self)

    save_training_state.exports_at_the_end = True  # type: ignore[attr-defined]
    BaseModel.save_training_state = save_training_state


_install()
