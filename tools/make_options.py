"""Writes the option files in options/ from the templates in tools/option_templates/.

The files of a family differ only in numbers and paths, and BasicSR's YAML has no include, so one
template serves all scales and variants. Run it after editing a template (``make options``); a test
compares.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from string import Template

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = Path(__file__).resolve().parent / "option_templates"
BENCHMARKS = ("Set5", "Set14", "B100", "Urban100")
CACHED = "CachedPairedDataset  # decodes each image once: docs/training-speed.md"
# docs/training-speed.md says when to use which key.
SPEED = """speed:
  channels_last: true
  compile: false  # true: faster by another half on a processor; results differ by rounding
"""
AMP = "  amp: auto  # bfloat16 where the processor or GPU computes it in hardware; ~: always float32\n"
SESR_VARIANTS = ("M3", "M5", "M7", "M11", "XL")

Sets = list[tuple[str, str, str]]


def render() -> dict[str, str]:
    """Returns the content of every option file by its path below the repository's root."""
    files = {}
    for template in sorted(TEMPLATES.glob("*.yml")):
        demo = template.stem.startswith("demo_")
        arch, *suffix = template.stem.removeprefix("demo_").split("_", 1)
        folder = "options/demo" if demo else "options"
        for name, values in _members(arch, demo):
            text = Template(template.read_text()).substitute(values)
            files[f"{folder}/{'_'.join([name, *suffix])}.yml"] = text.rstrip() + "\n"
    return files


def _members(arch: str, demo: bool) -> Iterator[tuple[str, dict[str, object]]]:
    """Yields name, as ``abpn_x3`` or ``sesr_m5_x2``, and template values of a family's members."""
    if arch == "abpn":
        for scale in (2, 3, 4):
            yield f"abpn_x{scale}", _values(scale)
        return
    for variant in ("M5",) if demo else SESR_VARIANTS:
        for scale in (2, 4):
            tag = variant.lower()
            own = {"variant": variant, "tag": tag, "sesr_size": {2: "1080x1920", 4: "540x960"}[scale]}
            own["transfer"] = (
                "  transfer_x2: true  # all blocks but the last start from x2\n" if scale == 4 else ""
            )
            for prefix, name in (("", f"sesr_{tag}"), ("demo_", f"demo_sesr_{tag}")):
                x2 = f"experiments/{name}_x2/models/net_g_latest.pth"
                own[f"{prefix}sesr_float_path"] = (
                    f"path:\n  pretrain_network_g: {x2 if scale == 4 else '~'}\n"
                    "  strict_load_g: true\n  resume_state: ~\n"
                )
            yield f"sesr_{tag}_x{scale}", {**_values(scale), **own}


def _values(scale: int) -> dict[str, object]:
    valid = [("DIV2K", "datasets/DIV2K/DIV2K_valid_HR", f"datasets/DIV2K/DIV2K_valid_LR_bicubic/X{scale}")]
    sets = [(name, f"datasets/{name}/GTmod12", f"datasets/{name}/LRbicx{scale}") for name in BENCHMARKS]
    manga = [("Manga109", "datasets/Manga109/GTmod12", f"datasets/Manga109/LRbicx{scale}")]
    demo = [("demo", "datasets/demo/valid_HR", f"datasets/demo/valid_LR_bicubic/X{scale}")]
    values: dict[str, object] = {
        "scale": scale,
        "speed": SPEED + AMP,
        "demo_speed": SPEED,  # float32 everywhere, so that the demo's figures are those of the documents
        "logger": _logger(5000) + "\ndist_params:\n  backend: nccl\n  port: 29500\n",
        "demo_logger": _logger(500),
    }
    for luma in (False, True):
        prefix = "luma_" if luma else ""
        values |= {
            f"{prefix}train_set": _training(scale, luma),
            f"demo_{prefix}train_set": _demo_training(scale, luma),
            f"{prefix}val_sets": _datasets("val", valid + sets + manga * luma, luma),
            f"{prefix}test_sets": _datasets("test", sets + manga * luma, luma),
            f"demo_{prefix}val_set": _datasets("val", demo, luma),
            f"demo_{prefix}test_set": _datasets("test", demo, luma),
            f"{prefix}val": _validation(scale, luma, "  val_freq: !!float 5e3\n  save_img: false\n"),
            f"demo_{prefix}val": _validation(scale, luma, "  val_freq: !!float 5e2\n  save_img: false\n"),
            f"{prefix}test_val": _validation(scale, luma, "  save_img: true\n  suffix: ~\n", ssim=True),
        }
    return values


def _training(scale: int, luma: bool) -> str:
    gt = "datasets/DIV2K/DIV2K_train_HR.lmdb"
    lq = f"datasets/DIV2K/DIV2K_train_LR_bicubic_X{scale}.lmdb"
    return _train_set("DIV2K", gt, lq, luma, scale, patch=64, batch=32 if luma else 16)


def _demo_training(scale: int, luma: bool) -> str:
    lq = f"datasets/demo/train_LR_bicubic_X{scale}_sub.lmdb"
    return _train_set("demo", "datasets/demo/train_HR_sub.lmdb", lq, luma, scale, patch=32, batch=16)


def _train_set(name: str, gt: str, lq: str, luma: bool, scale: int, *, patch: int, batch: int) -> str:
    return (
        f"  train:\n{_pairs(name, gt, lq, 'lmdb', luma, CACHED)}"
        "    uint8_batches: true\n"
        f"    gt_size: {patch * scale}  # LR patches of {patch}x{patch}\n"
        "    use_hflip: true\n    use_rot: true\n"
        f"    num_worker_per_gpu: 0\n    batch_size_per_gpu: {batch}\n"
        "    dataset_enlarge_ratio: 100\n    prefetch_mode: ~\n"
    )


def _datasets(phase: str, sets: Sets, luma: bool) -> str:
    keys = [phase] if len(sets) == 1 else [f"{phase}_{number + 1}" for number in range(len(sets))]
    return "\n".join(f"  {key}:\n{_pairs(*own, 'disk', luma)}" for key, own in zip(keys, sets, strict=True))


def _pairs(name: str, gt: str, lq: str, backend: str, luma: bool, kind: str = "PairedImageDataset") -> str:
    return (
        f"    name: {name}\n    type: {kind}\n    dataroot_gt: {gt}\n    dataroot_lq: {lq}\n"
        f"    filename_tmpl: '{{}}'\n    io_backend:\n      type: {backend}\n" + "    color: y\n" * luma
    )


def _validation(scale: int, luma: bool, head: str, *, ssim: bool = False) -> str:
    text = f"val:\n{head}  pbar: false\n  metrics:\n"
    if not luma:
        text += (
            "    rgb_crop1:  # the protocol of the ABPN paper\n"
            "      type: calculate_psnr\n      crop_border: 1\n      test_y_channel: false\n"
        )
    text += (
        "    y_crop_scale:  # the benchmark protocol of most papers\n"
        f"      type: calculate_psnr\n      crop_border: {scale}\n      test_y_channel: true\n"
    )
    if ssim:
        text += (
            "    ssim_y_crop_scale:\n"
            f"      type: calculate_ssim\n      crop_border: {scale}\n      test_y_channel: true\n"
        )
    return text


def _logger(save_every: int) -> str:
    return (
        f"logger:\n  print_freq: 100\n  save_checkpoint_freq: {save_every}\n  use_tb_logger: true\n"
        "  wandb:\n    project: ~\n    resume_id: ~\n"
    )


def main() -> None:
    """Writes the files that differ, or only names them."""
    parser = argparse.ArgumentParser(description="Writes the option files from their templates.")
    parser.add_argument("--check", action="store_true", help="only say whether options/ is up to date")
    check = parser.parse_args().check
    files = render()
    unwanted = [
        str(path) for path in (ROOT / "options").rglob("*.yml") if str(path.relative_to(ROOT)) not in files
    ]
    stale = [name for name, text in files.items() if not _same(ROOT / name, text)]
    if check and (stale or unwanted):
        raise SystemExit(f"not as the templates say (run `make options`): {', '.join(stale + unwanted)}")
    for name in stale:
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(files[name])
    for path in unwanted:
        Path(path).unlink()


def _same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    main()
