"""Repairs of what BasicSR writes while training: networks (.pth) and training states (.state)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mobilesr_plugin.host.replacing import mentions


def repair_save_network() -> None:
    """Write networks whole or not at all, and stop when that fails.

    Fault: ``BaseModel.save_network`` catches every error, waits, and after three attempts logs "Just
    ignore it": training goes on for days without a checkpoint. A run that is killed while it writes
    leaves half a file under the final name. To see it: set ``path: models`` to a folder that does not
    exist.
    """
    from basicsr.models.base_model import BaseModel
    from basicsr.utils.dist_util import master_only

    if not mentions(BaseModel.save_network, "retry"):
        return

    @master_only
    def save_network(
        self: Any, net: Any, net_label: str, current_iter: int, param_key: str | list[str] = "params"
    ) -> None:
        from mobilesr_plugin import checkpoint

        label = "latest" if current_iter == -1 else current_iter
        nets = net if isinstance(net, list) else [net]
        keys = param_key if isinstance(param_key, list) else [param_key]
        entries: dict[str, Any] = {
            key: weights_on_cpu(self.get_bare_model(one)) for key, one in zip(keys, nets, strict=True)
        }
        if "network_g" in self.opt and net_label == "net_g":
            entries["mobilesr"] = checkpoint.describe(self.opt)
        path = Path(self.opt["path"]["models"], f"{net_label}_{label}.pth")
        checkpoint.save(path, entries)

    BaseModel.save_network = save_network


def repair_save_training_state() -> None:
    """Write training states whole or not at all, and stop when that fails.

    Fault and way to see it: as for ``repair_save_network``; half a state then breaks ``--auto_resume``.
    """
    from basicsr.models.base_model import BaseModel
    from basicsr.utils.dist_util import master_only

    if not mentions(BaseModel.save_training_state, "retry"):
        return

    @master_only
    def save_training_state(self: Any, epoch: int, current_iter: int) -> None:
        from mobilesr_plugin import checkpoint

        if current_iter == -1:
            return
        state = {
            "epoch": epoch,
            "iter": current_iter,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
        }
        path = Path(self.opt["path"]["training_states"], f"{current_iter}.state")
        checkpoint.save(path, state)

    BaseModel.save_training_state = save_training_state


def weights_on_cpu(net: Any) -> dict[str, Any]:
    """The network's state without the prefix ``module.`` of parallel wrappers, on the CPU."""
    return {
        key.removeprefix("module."): value.detach().cpu() if hasattr(value, "detach") else value
        for key, value in net.state_dict().items()
    }
