"""A TFLite file as a BasicSR model: evaluated by BasicSR's test script like any network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from basicsr.models.base_model import BaseModel
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY

from mobilesr_plugin.colour import upscale_colour
from mobilesr_plugin.errors import OptionError
from mobilesr_plugin.options import TFLiteOptions, parse_block
from mobilesr_plugin.runtimes import TFLiteRunner


@MODEL_REGISTRY.register()
class TFLiteSRModel(SRModel):
    """Runs ``path: pretrain_network_g``, a .tflite file, on the processor; for testing only.

    The ``tflite:`` block (see TFLiteOptions) sets threads and kernels.

    Raises:
        OptionError: used for training, or without a .tflite file.
        DataError: the file cannot be read.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        BaseModel.__init__(self, opt)
        if self.is_train:
            raise OptionError("model_type TFLiteSRModel cannot be trained; use it with basicsr/test.py")
        path = opt["path"].get("pretrain_network_g")
        if path is None or Path(path).suffix != ".tflite":
            raise OptionError(
                f"path: pretrain_network_g is {path}; TFLiteSRModel needs a .tflite file from mobilesr-export"
            )
        options = parse_block(opt, "tflite", TFLiteOptions)
        self.runner = TFLiteRunner(Path(path), threads=options.threads, kernels=options.kernels)
        get_root_logger().info(f"Loading {path}, kernels: {options.kernels}, threads: {options.threads}.")

    def test(self) -> None:
        """Runs ``self.lq``, (N, C, H, W) in [0, 1], rounded to uint8 as on the device."""
        self.output = upscale_colour(self._run, self.lq, self.runner.channels)

    def _run(self, images: torch.Tensor) -> torch.Tensor:
        pixels = torch.round(images * 255).clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        result = np.concatenate([self.runner(image[None]) for image in pixels])
        return torch.from_numpy(result).permute(0, 3, 1, 2).float().to(images.device) / 255
