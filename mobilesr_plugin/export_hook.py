"""Ends a training with an export, where its options have an ``export:`` block.

BasicSR has no hook for the end of training, but every model then calls ``save_training_state`` with
iteration -1, after its networks are written. Registered when BasicSR is imported.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from basicsr.models.base_model import BaseModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only

from mobilesr_plugin.options import ExportOptions, parse_block


@master_only
def export_after_training(model: BaseModel) -> None:
    """Exports ``net_g_latest.pth`` of a model whose options have an ``export:`` block."""
    opt = model.opt
    if opt.get("export") is None:
        return
    from mobilesr_plugin.pipeline import export

    logger = get_root_logger()
    options = parse_block(opt, "export", ExportOptions)
    exported = export(Path(opt["path"]["models"]) / "net_g_latest.pth", options, progress=logger.info)
    parity = exported.report["parity"]["xnnpack"]
    int8 = {name: result["mismatched"] for name, result in parity.items() if "_int8" in name}
    logger.info(f"Exported to {exported.folder}; values that differ from int8 validation: {int8}")


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
