"""What happens when BasicSR is imported: two steps, before and after the run of its body.

Both are idempotent. The import hook calls them; ``mobilesr_plugin.register()`` does so where the hook
is off or not installed.
"""

from __future__ import annotations

import importlib

from mobilesr_plugin.host import pending

REGISTERING = (
    "mobilesr_plugin.archs",
    "mobilesr_plugin.data.cached_dataset",
    "mobilesr_plugin.models",
    "mobilesr_plugin.export_hook",
)


def activate() -> None:
    """Import BasicSR with all repairs, and register the plugin's networks, data set and models in it."""
    before_basicsr()
    importlib.import_module("basicsr")  # with the hook in place this already does everything
    after_basicsr()


def before_basicsr() -> None:
    """Repair what would keep BasicSR from being imported."""
    from mobilesr_plugin.host import torchvision_repairs

    torchvision_repairs.define_missing_operators()
    torchvision_repairs.restore_functional_tensor()


def after_basicsr() -> None:
    """Repair BasicSR's functions, then register the plugin's networks, data set and models."""
    from mobilesr_plugin.host import distributed, images, loading, options_entry, prefetch, resuming, saving

    options_entry.wrap_parse_options()
    resuming.repair_load_resume_state()
    resuming.repair_resume_training()
    distributed.repair_init_dist()
    distributed.repair_model_to_device()
    saving.repair_save_network()
    saving.repair_save_training_state()
    loading.repair_load_network()
    prefetch.repair_prefetch_generator()
    images.repair_damaged_images()
    pending.run_when_possible(register)


def register() -> None:
    """Import the modules that register themselves in BasicSR's registries."""
    for name in REGISTERING:
        importlib.import_module(name)
