"""``mobilesr report``: what the page shows, and how it behaves in a real browser."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import browser
from data_fixtures import hr_folder
from host_fixtures import run
from PIL import Image
from test_export import SIZE, Export, exported

from mobilesr_plugin.bench.accuracy import evaluate
from mobilesr_plugin.bench.metrics import PROTOCOLS
from mobilesr_plugin.data.bicubic import downscale, mod_crop
from mobilesr_plugin.data.images import read_image
from mobilesr_plugin.errors import DataError
from mobilesr_plugin.html_report import curves
from mobilesr_plugin.html_report.pictures import MOST_OF_A_HEAT_MAP, heat
from mobilesr_plugin.html_report.subject import find_subject
from mobilesr_plugin.runtimes import TFLiteRunner
from mobilesr_plugin.verify.tflite_graph import read_operators

__all__ = ["browser", "exported"]  # fixtures

SIZES = [(390, 844), (1440, 900)]
CLIP = "() => getComputedStyle(document.querySelector('.stage .right')).clipPath"
# The smallest contrast of text outside the pictures, and its text (WCAG 2, relative luminance).
CONTRAST = """() => {
  const channels = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = colour => {
    const [r, g, b] = channels(colour).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      const alpha = channels(colour)[3];
      if (alpha === undefined || alpha === 1) return colour;
    }
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || element.closest(".stage, script") || !element.checkVisibility())
      continue;
    const [a, b] = [getComputedStyle(element).color, behind(element)].map(luminance);
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), texts.currentNode.data.trim()]);
  }
  return [found.length, ...found.sort((a, b) => a[0] - b[0])[0]];
}"""


def write_log(folder: Path) -> None:
    """The scalars that BasicSR and QATSRModel write in a training of 30 iterations."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as log:
        for step in (10, 20, 30):
            log.add_scalar("losses/l_pix", 1 / step, step)
            log.add_scalar("metrics/demo/rgb_crop1", 28 + step / 10, step)
            log.add_scalar("metrics/demo/rgb_crop1_float", 31.5, step)
            log.add_scalar("ranges/body.0/high", 0.5 + step / 100, step)
            log.add_scalar("ranges/body.1/high", 0.7, step)


@pytest.fixture(scope="module")
def experiment(exported: Export, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an experiment that was trained with a log and exported, and two sets of images."""
    root = tmp_path_factory.mktemp("root")
    folder = root / "experiments" / "tiny_qat"
    shutil.copytree(exported(3).folder.parent, folder)
    (folder / "tiny_qat.yml").write_text("# GENERATE TIME: now\n# CMD:\n# basicsr/train.py -opt tiny.yml\n\n")
    write_log(root / "tb_logger" / "tiny_qat")
    hr_folder(root / "First", count=2, height=120, width=150)
    hr_folder(root / "Second", count=1, height=90, width=96)
    return folder


def report(*arguments: object, cwd: Path) -> Any:
    return run("-m", "mobilesr_plugin.cli", "report", *map(str, arguments), cwd=cwd)


@pytest.fixture(scope="module")
def page(experiment: Path) -> Path:
    """The page of the experiment, made by the command."""
    root = experiment.parent.parent
    done = report("experiments/tiny_qat", "--data", "First", "Second", cwd=root)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    path = experiment / "export" / "report.html"
    assert done.stdout == f"experiments/tiny_qat/export/report.html  {len(path.read_bytes()):,} bytes\n"
    return path


def sources(page: Path) -> dict[str, np.ndarray]:
    """Pixels of every image in the page, by its alternative text."""
    found = {}
    for tag in re.findall(r"<img [^>]*src=[^>]*>", page.read_text()):
        kind, data = re.search(r'src="data:image/(\w+);base64,([^"]+)"', tag).groups()  # type: ignore[union-attr]
        assert kind == "webp"
        name = re.search(r'alt="([^"]*)"', tag).group(1)  # type: ignore[union-attr]
        found[name] = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    return found


def rows(page: Path, title: str) -> list[list[str]]:
    """Cells of the table with this label, without markup."""
    (table,) = re.findall(rf'aria-label="{title}"><table[^>]*>(.*?)</table>', page.read_text(), re.DOTALL)
    return [
        [
            " ".join(unescape(re.sub(r"<[^>]+>", " ", cell)).split())
            for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)
        ]
        for row in re.findall(r"<tr.*?>(.*?)</tr>", table.split("<tbody>")[1], re.DOTALL)
    ]


# What it shows


def test_pictures_are_the_files_own_bytes(page: Path, experiment: Path) -> None:
    images = sources(page)
    device = TFLiteRunner(experiment / "export" / "abpn_x3_int8.tflite")
    for path in sorted((experiment.parent.parent / "First").iterdir()):
        truth = mod_crop(read_image(path), 3)
        assert np.array_equal(images[f"First {path.stem}, Original"], truth)
        result = device(downscale(truth, 3)[None])[0]
        assert np.array_equal(images[f"First {path.stem}, int8 device file"], result)
        error = np.abs(result.astype(int) - truth).max(axis=2)
        shown = images[f"Error map of First {path.stem}, int8 against the original"]
        assert np.array_equal(shown, heat(error))
    assert len(images) == 3 * 6


def test_heat_map_grows_brighter() -> None:
    ramp = heat(np.arange(MOST_OF_A_HEAT_MAP + 5)[None]).astype(int).sum(axis=2)[0]
    assert ramp[0] < 10
    assert (np.diff(ramp[: MOST_OF_A_HEAT_MAP + 1]) > 0).all()
    assert (ramp[MOST_OF_A_HEAT_MAP:] == ramp[-1]).all()


def test_accuracy_is_that_of_the_benchmark(page: Path, experiment: Path) -> None:
    export, root = experiment / "export", experiment.parent.parent
    models = [export / "abpn_x3_fp32.tflite", export / "abpn_x3_int8.tflite"]
    accuracy = evaluate(models, [root / "First", root / "Second"], list(PROTOCOLS), with_ssim=True)
    for protocol in PROTOCOLS:
        shown = rows(page, f"PSNR and SSIM, {protocol}")
        for row, cells in zip(accuracy.rows, shown, strict=True):
            for scores, cell in zip(row.scores[protocol], cells[1:3], strict=True):
                assert cell == f"{scores.mean_psnr:.3f} {scores.mean_ssim:.4f}"
            assert cells[3].startswith(f"{row.mean_psnr(protocol):.3f} ")
        lost = accuracy.rows[2].mean_psnr(protocol) - accuracy.rows[1].mean_psnr(protocol)
        assert shown[2][4] == (f"{lost:+.3f}" if abs(lost) >= 0.0005 else "0.000")


def test_parity_files_and_operators(page: Path, experiment: Path) -> None:
    content = json.loads((experiment / "export" / "report.json").read_text())
    expected = [
        [f"{file} {kernels}", f"{found['mismatched']:,}", f"{found['pixels']:,}", str(found["max_abs_diff"])]
        for kernels, files in content["parity"].items()
        for file, found in files.items()
    ]
    assert rows(page, "Parity") == expected
    shown = [row[:3] for row in rows(page, "Files")]
    assert shown[:-1] == [[file["name"], f"{file['bytes']:,}", file["sha256"]] for file in content["files"]]
    assert shown[-1][2] == content["source"]["sha256"]
    fixed = read_operators((experiment / "export" / f"abpn_x3_int8_{SIZE}.tflite").read_bytes())
    operators = rows(page, "Operators")
    assert [row[1] for row in operators] == [operator.kind for operator in fixed]
    assert [row[2] for row in operators][-2:] == ["1 x 144 x 192 x 3"] * 2
    for row, operator in zip(operators, fixed, strict=True):
        if operator.kind == "CONV_2D":
            weight, bias = operator.inputs[1:]
            assert row[6] == " x ".join(map(str, weight.shape))
            assert row[8] == f"{weight.values.size + bias.values.size:,}"  # type: ignore[union-attr]
        (result,) = operator.outputs
        quantized = [f"{result.scale[0]:.6g}", str(result.zero_point[0])] if len(result.scale) else ["", ""]
        assert row[4:6] == quantized


def test_ranges_are_bars(page: Path) -> None:
    text = page.read_text().split('id="ranges"')[1].split("</section>")[0]
    bars = re.findall(r"--left: ([\d.]+)%; --width: ([\d.]+)%; --zero: ([\d.]+)%", text)
    operators = [row for row in rows(page, "Operators") if row[3] == "int8"]
    ends = [(float(low), float(high)) for low, high in re.findall(r">(-?[\d.]+) to (-?[\d.]+)<", text)]
    assert len(bars) == len(operators) == len(ends)
    for (low, high), row in zip(ends, operators, strict=True):
        scale, zero_point = float(row[4]), int(row[5])
        assert low == pytest.approx((-128 - zero_point) * scale, abs=2e-3)
        assert high == pytest.approx((127 - zero_point) * scale, abs=2e-3)
    assert max(float(left) + float(width) for left, width, _ in bars) == pytest.approx(100, abs=0.02)


def test_latency_names_three_files(page: Path) -> None:
    text = page.read_text().split('id="latency"')[1].split("</section>")[0]
    assert re.findall(r'mono">(\S+?)<', text) == [
        *(f"abpn_x3_int8_{SIZE}.tflite", "abpn_x3_fp32.tflite", "abpn_x3_fp16.tflite"),
    ]
    assert len(re.findall(r"[\d.]+ ms \([\d.]+\)", text)) == 3


def test_commands(page: Path) -> None:
    shown = re.search(r"<pre.*?><code>(.*?)</code>", page.read_text(), re.DOTALL)
    assert shown is not None
    train, export, own = unescape(shown.group(1)).splitlines()
    assert train == "python basicsr/train.py -opt tiny.yml"
    assert export.startswith("mobilesr-export --ckpt ")
    assert export.endswith(f" --size {SIZE}")
    assert own == "mobilesr report experiments/tiny_qat --data First --data Second"


def test_curves_follow_the_log(experiment: Path) -> None:
    scalars = curves.read_scalars(experiment.parent.parent / "tb_logger" / "tiny_qat")
    assert scalars["metrics/demo/rgb_crop1"] == [(10, 29.0), (20, 30.0), (30, 31.0)]
    metric, loss, ranges = curves.charts(scalars)
    assert (metric.title, metric.unit) == ("Validation, rgb_crop1", "dB")
    assert [(line.name, line.last) for line in metric.lines] == [
        ("demo", "31.00"),
        ("demo, float network", "31.50"),  # in the chart of the int8 network
    ]
    assert metric.lines[0].path == "M0.00 100.00L50.00 60.00L100.00 20.00"
    assert metric.lines[1].path == "M0.00 0.00L50.00 0.00L100.00 0.00"
    assert [tick.label for tick in metric.y] == ["29", "30", "31"]
    assert (loss.title, [line.name for line in ranges.lines]) == ("Loss, pix", ["body.0", "body.1"])


def test_long_curves_are_thinned() -> None:
    (chart,) = curves.charts({"losses/l_pix": [(step, float(step)) for step in range(10_000)]})
    assert 300 < chart.lines[0].path.count("L") < 420
    assert chart.lines[0].path.endswith("L100.00 0.00")


def test_a_constant_curve_is_a_line() -> None:
    (chart,) = curves.charts({"losses/l_pix": [(5, 0.25)]})
    assert chart.lines[0].path == "M0.00 100.00"


def test_a_thousandth_of_a_decibel_is_no_fall() -> None:
    """Two validations, two iterations apart: whole iterations, and an axis of at least 0.1 dB."""
    (chart,) = curves.charts({"metrics/demo/psnr": [(500, 28.9115), (502, 28.9105)]})
    assert [tick.label for tick in chart.x] == ["500", "501", "502"]
    heights = [float(number) for number in re.findall(r" ([\d.]+)", chart.lines[0].path)]
    assert abs(heights[0] - heights[1]) == pytest.approx(1, abs=0.05)  # percent of 0.1 dB


def test_nothing_refers_outside(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r'(?:src|href|action|srcset)="([^"]*)"', text):
        assert target.startswith(("data:", "#")), target[:80]
    assert not re.search(r"url\(|@import|https?://", re.sub(r"base64,[^\"]+", "", text))


# In a browser


@pytest.fixture
def opened(browser: Any, page: Path) -> Any:
    """The page in a window of its own, with what it asked for and what it said."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    window = context.new_page()
    window.requested, window.said = [], []
    window.on("request", lambda request: window.requested.append(request.url))
    window.on("console", lambda message: window.said.append(message.text))
    window.on("pageerror", lambda error: window.said.append(str(error)))
    window.goto(page.as_uri())
    yield window
    assert [url for url in window.requested if not url.startswith("data:")] == [page.as_uri()]
    assert window.said == []
    context.close()


def test_slider_follows_the_mouse(opened: Any) -> None:
    stage = opened.locator(".stage")
    stage.scroll_into_view_if_needed()
    assert opened.evaluate(CLIP) == "inset(0px 0px 0px 50%)"
    before = stage.screenshot()
    box = stage.bounding_box()
    middle = box["y"] + box["height"] / 2
    opened.mouse.move(box["x"] + box["width"] / 2, middle)
    opened.mouse.down()
    opened.mouse.move(box["x"] + box["width"] / 4, middle, steps=4)
    opened.mouse.up()
    assert opened.evaluate(CLIP) == "inset(0px 0px 0px 25%)"
    images = [
        np.asarray(Image.open(io.BytesIO(each)).convert("RGB")) for each in (before, stage.screenshot())
    ]
    changed = np.abs(images[0].astype(int) - images[1]).max(axis=(0, 2)) > 0
    width = len(changed)
    assert changed[int(0.3 * width) : int(0.45 * width)].mean() > 0.9  # was left of the divider, is right
    assert not changed[int(0.6 * width) :].any()


def test_slider_follows_the_keyboard(opened: Any) -> None:
    slider = opened.get_by_label("Divider between the two pictures")
    slider.focus()
    opened.keyboard.press("ArrowRight")
    assert opened.evaluate(CLIP) == "inset(0px 0px 0px 51%)"
    opened.keyboard.press("End")
    assert opened.evaluate(CLIP) == "inset(0px 0px 0px 100%)"
    assert slider.get_attribute("aria-valuetext") == "100 % Bicubic"
    assert opened.evaluate("() => getComputedStyle(document.querySelector('.stage')).outlineStyle") == "solid"


def test_slider_follows_a_finger(browser: Any, page: Path) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    window = context.new_page()
    window.goto(page.as_uri())
    stage = window.locator(".stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    window.touchscreen.tap(box["x"] + 0.75 * box["width"], box["y"] + box["height"] / 2)
    assert window.evaluate(CLIP) == "inset(0px 0px 0px 75%)"
    context.close()


def test_what_is_compared_can_be_chosen(opened: Any) -> None:
    shown = "side => document.querySelector(`.stage .${side} img`).alt"
    first, _ = opened.evaluate(
        "() => [...document.querySelectorAll('[name=picture]+span')].map(e => e.textContent)"
    )[:2]
    assert opened.evaluate(shown, "right") == f"{first}, int8 device file"
    opened.get_by_label("Left").select_option(label="Float network")
    assert opened.evaluate(shown, "left") == f"{first}, Float network"
    opened.locator("[name=picture]").first.focus()
    opened.keyboard.press("ArrowRight")  # the second picture, from another set
    assert not opened.evaluate(shown, "right").startswith(f"{first},")
    assert opened.locator(".panel:visible").count() == 1
    opened.locator("[name=zoom]").first.focus()
    opened.keyboard.press("ArrowRight")
    transform = "() => getComputedStyle(document.querySelector('.stage img')).transform"
    assert opened.evaluate(transform) == "matrix(2, 0, 0, 2, 0, 0)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_looks(browser: Any, page: Path, tmp_path: Path, size: tuple[int, int], scheme: str) -> None:
    """Nothing wider than the window, every text legible, and the scheme that was asked for."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    window = context.new_page()
    window.goto(page.as_uri())
    assert window.evaluate("() => document.scrollingElement.scrollWidth <= innerWidth")
    texts, least, text = window.evaluate(CONTRAST)
    assert texts > 200
    assert least >= 4.5, text
    shot = np.asarray(Image.open(io.BytesIO(window.screenshot())).convert("L"))
    assert shot.shape == size[::-1]
    assert (np.median(shot) > 128) == (scheme == "light")
    assert window.evaluate("() => [...document.images].every(image => image.complete && image.naturalWidth)")
    unlabelled = window.evaluate(
        "() => [...document.querySelectorAll('input, select')]"
        ".filter(each => !each.labels.length && !each.ariaLabel).length"
    )
    assert unlabelled == 0
    context.close()


# Folders that have no such page, or another


def test_an_export_that_differs_is_red(browser: Any, experiment: Path, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    shutil.copytree(experiment / "export", folder)
    (folder / "UNVERIFIED").write_text("abpn_x3_int8.tflite: 7 of 9 <values> differ\n")
    done = report(folder, "--no-latency", "--data", experiment.parent.parent / "Second", cwd=tmp_path)
    assert done.returncode == 0
    marked, no_log = done.stderr.splitlines()
    assert "is marked UNVERIFIED: abpn_x3_int8.tflite: 7 of 9 <values> differ" in marked
    assert "no tensorboard log" in no_log
    window = browser.new_page()
    window.goto((folder / "report.html").as_uri())
    assert window.title() == "abpn_x3: NOT VERIFIED"
    alarm = window.get_by_role("alert")
    assert "7 of 9 <values> differ" in alarm.inner_text()
    red, green, blue = map(int, re.findall(r"\d+", alarm.evaluate("e => getComputedStyle(e).color"))[:3])
    assert red > 2 * green > 0
    assert red > 2 * blue > 0
    assert window.locator("#training, #latency").count() == 0
    window.close()


def test_folders_without_a_report(exported: Export, tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    (trained / "models").mkdir(parents=True)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "report.json").write_text("{}")
    lacking = tmp_path / "lacking"
    shutil.copytree(exported(3).folder, lacking)
    (lacking / "abpn_x3_fp32.tflite").unlink()
    for folder, named in {
        tmp_path / "missing": "is not a folder",
        tmp_path: "is neither an experiment nor an export",
        trained: "was not exported; run mobilesr-export --ckpt",
        damaged: "is no report of mobilesr-export: it lacks model",
        lacking: "lacks abpn_x3_fp32.tflite",
    }.items():
        with pytest.raises(DataError, match=named) as caught:
            find_subject(folder)
        assert "\n" not in str(caught.value)
    done = report(trained, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("mobilesr: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert not list(tmp_path.rglob("report.html"))


@pytest.mark.slow
def test_a_page_that_cannot_be_written(experiment: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    arguments = ("--no-latency", "--data", experiment.parent.parent / "Second", "--out")
    done = report(experiment, *arguments, tmp_path / "file" / "page.html", cwd=tmp_path)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_log_is_read_without_tensorflow(experiment: Path) -> None:
    log = experiment.parent.parent / "tb_logger" / "tiny_qat"
    code = (
        "import sys; from pathlib import Path; from mobilesr_plugin.html_report import curves; "
        f"print(len(curves.read_scalars(Path({str(log)!r}))), 'tensorflow' in sys.modules)"
    )
    done = run("-c", code, cwd=experiment)
    assert done.stdout.split() == ["5", "False"], done.stderr
