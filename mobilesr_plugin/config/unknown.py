"""Keys that BasicSR does not read: warnings, because forks, and models of the user's own, have more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mobilesr_plugin.config.blocks import SR_MODELS, blocks
from mobilesr_plugin.config.schema import Images, Logger, Path, Train, Validation, Wandb
from mobilesr_plugin.options import closest

# Read by BasicSR elsewhere than the schema says: by its GAN and video models, other data sets, and itself.
_ELSEWHERE: dict[type, tuple[str, ...]] = {
    Train: (
        *(
            "gan_opt",
            "ldl_opt",
            "feature_matching_opt",
            "net_d_iters",
            "net_d_init_iters",
            "fix_flow",
            "flow_lr_mul",
        ),
        *(
            "tsa_iter",
            "dcn_lr_mul",
            "lr_flow",
            "mixing_prob",
            "net_d_reg_every",
            "net_g_reg_every",
            "r1_reg_weight",
        ),
        *("path_reg_weight", "path_batch_shrink"),
    ),
    Images: (
        *("phase", "scale", "use_shuffle", "cache_share", "cache_dir", "uint8_batches", "device_cache"),
        *(
            "num_worker_per_gpu",
            "batch_size_per_gpu",
            "dataset_enlarge_ratio",
        ),  # of train, also in other phases
    ),
    Validation: ("val_freq", "flip_seq", "center_frame_only", "num_val_samples"),
    Path: (
        *("pretrain_network_d", "param_key_d", "strict_load_d", "ignore_resume_networks", "root"),
        *("experiments_root", "results_root", "models", "training_states", "log", "visualization"),
    ),
    Logger: (),
    Wandb: (),
}
_LIKENESS = 0.8  # of a misspelt key, where others may be right


def unknown_keys(opt: Mapping[str, Any], *, training: bool) -> Iterator[str]:
    """Yields one line for each key that BasicSR does not read, as far as that can be told.

    A model of the user's own may read any key of ``train:``, so there only what looks misspelt counts. Wrong
    arguments of networks, losses and optimizers are errors, see ``arguments.py`` and ``network.py``.

    Args:
        opt: Options that :func:`mobilesr_plugin.config.check.check` has accepted.
        training: Whether train.py reads them, or test.py.
    """
    strict = opt["model_type"] in SR_MODELS
    for place, held, block in blocks(opt, training=training):
        elsewhere = next((keys for kind, keys in _ELSEWHERE.items() if issubclass(block, kind)), None)
        if elsewhere is None:
            continue
        known = [*block.model_fields, *elsewhere]
        for key in held:  # type: ignore[attr-defined]
            close = closest(key, known, cutoff=_LIKENESS)
            if key in known or (not close and (not strict or issubclass(block, Path))):
                continue
            meant = f"; did you mean {close}?" if close else ""
            yield f"{': '.join(place)}: unknown key {key!r}, which BasicSR does not read{meant}"
