"""Writes the option files in options/ from the templates in tools/option_templates/.

The files differ between scales only in numbers and paths, and BasicSR's YAML has no include, so one
template serves all scales. Run it after editing a template (``make options``); a test compares.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from string import Template

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = Path(__file__).resolve().parent / "option_templates"
SCALES = (2, 3, 4)
BENCHMARKS = ("Set5", "Set14", "B100", "Urban100")


def render() -> dict[str, str]:
    """Returns the content of every option file by its path below the repository's root."""
    files = {}
    for scale in SCALES:
        values = _values(scale)
        for template in sorted(TEMPLATES.glob("*.yml")):
            family = template.stem
            folder = "options/demo" if family.startswith("demo_") else "options"
            arch, *suffix = family.removeprefix("demo_").split("_", 1)
            name = "_".join([f"{arch}_x{scale}", *suffix])
            text = Template(template.read_text()).substitute(values)
            files[f"{folder}/{name}.yml"] = text.rstrip() + "\n"
    return files


def _values(scale: int) -> dict[str, object]:
    valid = [("DIV2K", "datasets/DIV2K/DIV2K_valid_HR", f"datasets/DIV2K/DIV2K_valid_LR_bicubic/X{scale}")]
    sets = [(name, f"datasets/{name}/GTmod12", f"datasets/{name}/LRbicx{scale}") for name in BENCHMARKS]
    demo = [("demo", "datasets/demo/valid_HR", f"datasets/demo/valid_LR_bicubic/X{scale}")]
    return {
        "scale": scale,
        "gt_size": 64 * scale,
        "demo_gt_size": 32 * scale,
        "val_sets": _datasets("val", valid + sets),
        "test_sets": _datasets("test", sets),
        "demo_val_set": _datasets("val", demo),
        "demo_test_set": _datasets("test", demo),
        "val": _validation(scale, "  val_freq: !!float 5e3\n  save_img: false\n"),
        "demo_val": _validation(scale, "  val_freq: !!float 5e2\n  save_img: false\n"),
        "test_val": _validation(scale, "  save_img: true\n  suffix: ~\n", ssim=True),
    }


def _datasets(phase: str, sets: list[tuple[str, str, str]]) -> str:
    blocks = []
    for number, (name, gt, lq) in enumerate(sets, start=1):
        key = phase if len(sets) == 1 else f"{phase}_{number}"
        blocks.append(
            f"  {key}:\n    name: {name}\n    type: PairedImageDataset\n    dataroot_gt: {gt}\n"
            f"    dataroot_lq: {lq}\n    filename_tmpl: '{{}}'\n    io_backend:\n      type: disk\n"
        )
    return "\n".join(blocks)


def _validation(scale: int, head: str, *, ssim: bool = False) -> str:
    text = (
        f"val:\n{head}  pbar: false\n  metrics:\n"
        "    rgb_crop1:  # the protocol of the ABPN paper\n"
        "      type: calculate_psnr\n      crop_border: 1\n      test_y_channel: false\n"
        "    y_crop_scale:  # the benchmark protocol of most papers\n"
        f"      type: calculate_psnr\n      crop_border: {scale}\n      test_y_channel: true\n"
    )
    if ssim:
        text += (
            "    ssim_y_crop_scale:\n"
            f"      type: calculate_ssim\n      crop_border: {scale}\n      test_y_channel: true\n"
        )
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say whether options/ is up to date")
    check = parser.parse_args().check
    stale = [name for name, text in render().items() if not _same(ROOT / name, text)]
    if check and stale:
        raise SystemExit(f"not as the templates say (run `make options`): {', '.join(stale)}")
    for name in stale:
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(render()[name])


def _same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    main()
