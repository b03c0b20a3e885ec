"""What BasicSR 1.4.2 needs of an option file and takes for each key, block by block.

Read off its sources: ``train.py``, ``test.py``, ``utils/options.py``, ``utils/logger.py``,
``data/__init__.py``, ``models/base_model.py``, ``models/sr_model.py``. A key without a default ends in a
KeyError there. Other keys are let through: forks and models have their own. ``blocks.py`` says which class is
for which block; what an optimizer, a schedule, a loss or a network takes is asked of them, see
``arguments.py`` and ``network.py``.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from mobilesr_plugin.config.fields import (
    AnyInteger,
    Backend,
    Betas,
    Better,
    Block,
    Criterion,
    Devices,
    FileNameTemplate,
    FiniteNumber,
    ImageOrder,
    IntegerFrom0,
    Label,
    Number,
    NumberFrom0,
    Numbers,
    NumberUpTo1,
    OptionalBlock,
    OptionalText,
    PositiveInteger,
    PositiveNumber,
    PositiveNumbers,
    Prefetching,
    Reduction,
    Seed,
    Switch,
    Text,
    Weights,
)


class Keys(BaseModel):
    """A block of keys; blocks inside it have classes of their own."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


class Typed(Keys):
    """Anything that is chosen by ``type``, of the user's own."""

    type: Text


# The top level


class Options(Keys):
    """An option file for test.py."""

    name: Text
    model_type: Text
    scale: PositiveNumber = 1
    num_gpu: Devices
    manual_seed: Seed = None
    find_unused_parameters: Switch = False
    dist_params: OptionalBlock = None
    network_g: OptionalBlock = None
    datasets: Block
    path: Block
    val: Block


class TrainingOptions(Options):
    """An option file for train.py."""

    train: Block
    logger: Block
    val: OptionalBlock = None  # type: ignore[assignment]


class Path(Keys):
    """``path:``."""

    pretrain_network_g: OptionalText = None
    param_key_g: OptionalText = None
    strict_load_g: Switch = True
    resume_state: OptionalText = None


# datasets:


class Dataset(Typed):
    """A data set of any type."""

    name: Label
    dataroot_gt: OptionalText = None
    dataroot_lq: OptionalText = None
    io_backend: OptionalBlock = None
    pin_memory: Switch = False
    persistent_workers: Switch = False
    prefetch_mode: Prefetching = None
    num_prefetch_queue: AnyInteger = 1


class TrainingDataset(Dataset):
    """``datasets: train`` of any type."""

    num_worker_per_gpu: IntegerFrom0
    batch_size_per_gpu: PositiveInteger
    dataset_enlarge_ratio: PositiveNumber = 1


class Images(Dataset):
    """PairedImageDataset, CachedPairedDataset or SingleImageDataset, for validation and tests."""

    filename_tmpl: FileNameTemplate = "{}"
    meta_info_file: OptionalText = None
    color: OptionalText = None
    mean: Numbers | None = None
    std: Numbers | None = None
    gt_size: Number | None = None  # not read
    use_hflip: Switch = False  # not read
    use_rot: Switch = False  # not read


class TrainingImages(Images, TrainingDataset):
    """The same for training: pairs of patches."""

    gt_size: PositiveInteger
    use_hflip: Switch
    use_rot: Switch


class Storage(Keys):
    """``io_backend:`` of these three."""

    type: Backend


# train:


class Train(Keys):
    """``train:`` of any model; the keys of BasicSR's GAN and video models are known by name only."""

    total_iter: NumberFrom0
    warmup_iter: Number = -1
    ema_decay: NumberUpTo1 = 0
    optim_g: OptionalBlock = None
    optim_d: OptionalBlock = None
    scheduler: OptionalBlock = None
    pixel_opt: OptionalBlock = None
    perceptual_opt: OptionalBlock = None
    transfer_x2: Switch = False


class SRTrain(Train):
    """``train:`` of SRModel and its kind, which learn with one optimizer."""

    optim_g: Block
    scheduler: Block


class Optimizer(Typed):
    """``train: optim_g``: keys that torch's optimizers share."""

    lr: NumberFrom0
    betas: Betas = [0.9, 0.999]
    weight_decay: NumberFrom0 = 0
    eps: NumberFrom0 = 0
    momentum: NumberFrom0 = 0


class MultiStepSchedule(Typed):
    """``train: scheduler`` of type MultiStepLR or MultiStepRestartLR."""

    milestones: Numbers
    gamma: FiniteNumber = 0.1
    restarts: Numbers = [0]
    restart_weights: Numbers = [1]


class CosineSchedule(Typed):
    """``train: scheduler`` of type CosineAnnealingRestartLR."""

    periods: PositiveNumbers
    restart_weights: Numbers = [1]
    eta_min: FiniteNumber = 0


class PixelLoss(Typed):
    """L1Loss, MSELoss or CharbonnierLoss."""

    loss_weight: FiniteNumber = 1
    reduction: Reduction = "mean"
    eps: PositiveNumber = 1e-12


class PerceptualLoss(Typed):
    """PerceptualLoss."""

    layer_weights: Weights
    vgg_type: Text = "vgg19"
    use_input_norm: Switch = True
    range_norm: Switch = False
    perceptual_weight: FiniteNumber = 1
    style_weight: FiniteNumber = 0
    criterion: Criterion = "l1"


# val:, logger:


class Validation(Keys):
    """``val:`` of a test."""

    save_img: Switch
    pbar: Switch = False
    suffix: Label = None
    metrics: OptionalBlock = None


class ValidationInTraining(Validation):
    """``val:`` of a training."""

    val_freq: PositiveNumber


class Metric(Typed):
    """calculate_psnr or calculate_ssim."""

    crop_border: IntegerFrom0
    test_y_channel: Switch = False
    input_order: ImageOrder = "HWC"
    better: Better = "higher"


class Logger(Keys):
    """``logger:``."""

    print_freq: PositiveNumber
    save_checkpoint_freq: PositiveNumber
    use_tb_logger: Switch
    wandb: OptionalBlock = None


class Wandb(Keys):
    """``logger: wandb``."""

    project: OptionalText = None
    resume_id: OptionalText = None
