"""Repair of how BasicSR's train.py finds and reads the state to resume from."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from types import FunctionType
from typing import Any

from mobilesr_plugin.errors import CheckpointError
from mobilesr_plugin.host.folders import redirect
from mobilesr_plugin.host.replacing import mentions, replace_everywhere


def repair_load_resume_state() -> None:
    """Let ``--auto_resume`` and ``path: resume_state`` work without a GPU, and load plain data only.

    Fault: ``load_resume_state`` asks for ``torch.cuda.current_device()`` ("Torch not compiled with CUDA
    enabled"), looks for states in the working directory instead of where they were written, and unpickles
    them without restriction. To see it: train on a CPU, stop, and start again with ``--auto_resume``.
    """
    from basicsr import train

    if mentions(train.load_resume_state, "current_device"):
        replace_everywhere(train.load_resume_state, load_resume_state)


def repair_main_script() -> None:
    """The same where train.py itself is the program: its functions are then those of ``__main__``."""
    main = sys.modules["__main__"]
    own = vars(main).get("load_resume_state")
    if isinstance(own, FunctionType) and hasattr(main, "train_pipeline") and mentions(own, "current_device"):
        vars(main)["load_resume_state"] = load_resume_state


def load_resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
    """Load the training state to resume from.

    Args:
        opt: The options; ``path: resume_state`` and ``path: pretrain_network_*`` are set as BasicSR does.

    Returns:
        The state, or None to start from the beginning.

    Raises:
        CheckpointError: The state is missing, truncated, or holds more than plain data.
    """
    from basicsr.utils import check_resume

    # train_pipeline has just stored its own idea of the root, from which the folder of tb_logger follows.
    opt["root_path"] = redirect(opt["root_path"])
    path = _newest_state(opt) if opt["auto_resume"] else opt["path"].get("resume_state")
    if path is None:
        return None
    opt["path"]["resume_state"] = str(path)
    state = _read_state(Path(path), opt["num_gpu"])
    check_resume(opt, state["iter"])
    return state


def repair_resume_training() -> None:
    """Say in one line that a training state is of another training.

    Fault: ``BaseModel.resume_training`` ends with a traceback of torch where the state has another number of
    optimizers or parameters. To see it: resume with another ``network_g`` under the same ``name``.
    """
    from basicsr.models.base_model import BaseModel

    original = BaseModel.resume_training
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def resume_training(self: Any, resume_state: dict[str, Any]) -> None:
        try:
            original(self, resume_state)
        except (AssertionError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            path = self.opt["path"].get("resume_state")
            raise CheckpointError(
                f"the training state {path} does not fit this training ({' '.join(str(error).split())}): "
                "resume with the option file it was saved with, or begin under another `name`"
            ) from error

    BaseModel.resume_training = resume_training


def _newest_state(opt: dict[str, Any]) -> Path | None:
    """The state with the highest iteration in this experiment's folder."""
    found = Path(opt["path"]["training_states"]).glob("*.state")
    states = [path for path in found if path.stem.isdecimal()]
    return max(states, key=lambda path: int(path.stem), default=None)


def _read_state(path: Path, num_gpu: int) -> dict[str, Any]:
    import torch

    from mobilesr_plugin.checksums import check_sums

    if num_gpu != 0 and torch.cuda.is_available():
        device = torch.device("cuda", torch.cuda.current_device())
    else:
        device = torch.device("cpu")
    try:
        check_sums(path)  # torch does not look whether bytes have changed
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no training state {path}: check `path: resume_state`") from error
    except Exception as error:  # torch, zipfile and pickle raise a dozen types for a damaged file
        raise CheckpointError(
            f"cannot read the training state {path} (damaged, or not plain data): "
            "delete it, then --auto_resume continues from the state before it"
        ) from error
    if not isinstance(state, dict) or not {"epoch", "iter", "optimizers", "schedulers"} <= state.keys():
        raise CheckpointError(f"{path} is not a training state of BasicSR: check `path: resume_state`")
    whole = all(isinstance(state[key], int) and state[key] >= 0 for key in ("epoch", "iter"))
    if not whole or not all(isinstance(state[key], list) for key in ("optimizers", "schedulers")):
        raise CheckpointError(
            f"the training state {path} is damaged: delete it, then --auto_resume continues from the "
            "state before it"
        )
    return state
