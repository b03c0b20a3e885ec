"""``mobilesr upscale`` on videos: times, colour, sound, going on after an interruption, failures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from host_fixtures import ROOT, environment
from networks import noise
from PIL import Image
from test_upscale import command, exported, folder, limited, luma, model, of_module, run, stated  # noqa: F401
from torch import nn

from mobilesr_plugin.errors import OptionError
from mobilesr_plugin.upscaling import video_segments
from mobilesr_plugin.upscaling.upscaler import Upscaler, open_upscaler
from mobilesr_plugin.upscaling.video import upscale_video
from mobilesr_plugin.upscaling.video_frames import FrameImage, FrameReader, FrameWriter
from mobilesr_plugin.upscaling.video_source import Colour, UnreadableVideoError, VideoInfo

av = pytest.importorskip("av")

HEIGHT, WIDTH = 48, 64
MILLISECOND = Fraction(1, 1000)
LIMITED, FULL = 1, 2


class Nearest(nn.Module):
    """Repeats pixels: what goes in can be told from what comes out."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.num_in_ch = channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


def nearest(channels: int = 3) -> Upscaler:
    network = Nearest(channels)
    return Upscaler(of_module(network, network, 2, channels))


def write_video(
    path: Path,
    images: Sequence[np.ndarray],
    *,
    stamps: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    matrix: int = 1,
    limits: int = LIMITED,
    codec: str = "libx264",
    form: str = "yuv420p",
    sound: bool = False,
    turned: float = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """Writes RGB images as a video; ``stamps`` are their times in ``time_base``."""
    stamps = range(len(images)) if stamps is None else stamps
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25, options={"crf": "1"} if codec == "libx264" else {})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = form
        stream.codec_context.time_base = stream.time_base = time_base
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, limits
        if turned:
            stream.set_display_rotation(turned)
        tone = container.add_stream("aac", rate=44100) if sound else None
        container.metadata["title"] = "a title"
        for stamp, image in zip(stamps, images, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
                format=form, dst_colorspace=matrix, src_color_range=FULL, dst_color_range=limits
            )
            frame.pts, frame.time_base = stamp, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if tone is not None:
            for start in range(0, int(len(images) * time_base * 44100), 1024):
                wave = np.sin(np.arange(start, start + 1024) / 20).astype(np.float32)[None]
                samples = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
                samples.sample_rate, samples.pts, samples.time_base = 44100, start, Fraction(1, 44100)
                container.mux(tone.encode(samples))
            container.mux(tone.encode(None))
    return path


def images(count: int, height: int = HEIGHT, width: int = WIDTH) -> list[np.ndarray]:
    picture = noise(height, width)
    return [np.roll(picture, 2 * index, axis=1) for index in range(count)]


def read(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def planes(frame: Any) -> list[np.ndarray]:
    return [
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in frame.planes
    ]


def packets(path: Path, kind: str) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(**{kind: 0}) if packet.size]


def times(path: Path) -> list[float]:
    return [frame.time for frame in read(path)]


# What comes out


def test_luma_of_every_frame_is_the_networks(luma: Path, tmp_path: Path) -> None:  # noqa: F811
    """Encoded without loss: Y is what the file gives for the source's Y, byte for byte."""
    source = write_video(tmp_path / "a.mp4", images(7))
    upscaler = open_upscaler(luma / "sesr_m5_x2_int8.tflite")
    made = upscale_video(source, tmp_path / "b.mkv", upscaler, codec="ffv1")
    assert (made.frames, made.size) == (7, (2 * WIDTH, 2 * HEIGHT))
    for given, result in zip(read(source), read(tmp_path / "b.mkv"), strict=True):
        (y, cb, cr), (large, *chroma) = planes(given), planes(result)
        assert np.array_equal(large, upscaler.pixels(y[:, :, None])[:, :, 0])
        for small, enlarged in zip((cb, cr), chroma, strict=True):
            assert enlarged.shape == (HEIGHT, WIDTH)
            assert abs(float(small.mean()) - float(enlarged.mean())) < 1


def test_colour_of_every_frame_is_the_networks(model: Path, tmp_path: Path) -> None:  # noqa: F811
    source = write_video(tmp_path / "a.mp4", images(4))
    upscaler = open_upscaler(model)
    upscale_video(source, tmp_path / "b.mkv", upscaler, codec="ffv1")
    for given, result in zip(read(source), read(tmp_path / "b.mkv"), strict=True):
        expected = upscaler.pixels(given.to_ndarray(format="rgb24")).astype(int)
        y = expected @ [0.2126, 0.7152, 0.0722] * 219 / 255 + 16
        assert np.abs(planes(result)[0] - y).mean() < 1.5


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("limits", [LIMITED, FULL])
@pytest.mark.parametrize("matrix", [1, 6, 9])
def test_range_and_matrix_are_kept(tmp_path: Path, matrix: int, limits: int, channels: int) -> None:
    """Patches of one colour come back with the same Y, Cb and Cr, under the same tags."""
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 100, 50)]
    image = np.repeat(np.repeat(np.array(colours, np.uint8)[None], 32, axis=0), 32, axis=1)
    source = write_video(tmp_path / "a.mkv", [image] * 3, matrix=matrix, limits=limits, codec="ffv1")
    upscale_video(source, tmp_path / "b.mkv", nearest(channels), codec="ffv1")
    given, result = (read(tmp_path / name)[1] for name in ("a.mkv", "b.mkv"))
    assert (result.colorspace, result.color_range) == (matrix, limits)
    for small, large in zip(planes(given), planes(result), strict=True):
        step = small.shape[1] // len(colours)
        for index in range(len(colours)):
            at = index * step + step // 2
            assert abs(int(small[small.shape[0] // 2, at]) - int(large[large.shape[0] // 2, 2 * at])) <= 2


@pytest.mark.parametrize("form", ["yuv420p", "yuv444p", "yuv422p10le", "rgb24", "gray"])
def test_the_network_sees_what_ffmpeg_converts_exactly(form: str) -> None:
    frame = av.VideoFrame.from_ndarray(noise(50, 70), format="rgb24").reformat(
        format=form,
        dst_colorspace=1,
        src_color_range=FULL,
        dst_color_range=FULL if form == "rgb24" else LIMITED,
    )
    info = VideoInfo(1, 70, 50, 0, Fraction(25), MILLISECOND, None, Colour(1, LIMITED, 2, 2), 8)
    flags = av.video.reformatter.Interpolation
    exact = flags.BICUBIC | flags.ACCURATE_RND | flags.FULL_CHR_H_INT | flags.FULL_CHR_H_INP
    expected = frame.reformat(
        format="rgb24",
        src_colorspace=1,
        dst_colorspace=1,
        src_color_range=FULL if form == "rgb24" else LIMITED,
        dst_color_range=FULL,
        interpolation=int(exact),
    )
    assert np.array_equal(FrameReader(info, 3).image(frame).pixels, expected.to_ndarray())


@pytest.mark.parametrize("limits", [LIMITED, FULL])
@pytest.mark.parametrize("matrix", [1, 4, 5, 7, 9])
def test_colour_goes_back_as_h273_says(matrix: int, limits: int) -> None:
    """Noise against the standard's own equations: Y, and the means of Cb and Cr of four pixels."""
    red, blue = {
        1: (0.2126, 0.0722),
        4: (0.30, 0.11),
        5: (0.299, 0.114),
        7: (0.212, 0.087),
        9: (0.2627, 0.0593),
    }[matrix]
    image = noise(90, 162)  # no multiple of what frames are aligned to
    info = VideoInfo(1, 54, 30, 0, Fraction(25), MILLISECOND, None, Colour(matrix, limits, 2, 2), 8)
    frame = FrameWriter(info, 3).frame(FrameImage(image, ()), 7)
    assert (frame.pts, frame.time_base, frame.format.name) == (7, MILLISECOND, "yuv420p")
    r, g, b = (image[:, :, channel] / 255 for channel in range(3))
    y = red * r + (1 - red - blue) * g + blue * b
    chroma = [(side - y) / (2 - 2 * share) for side, share in ((b, blue), (r, red))]
    steps, offset = ((255, 255), 0) if limits == FULL else ((219, 224), 16)
    expected = [y * steps[0] + offset]
    expected += [part.reshape(45, 2, 81, 2).mean(axis=(1, 3)) * steps[1] + 128 for part in chroma]
    for made, wanted in zip(planes(frame), expected, strict=True):
        assert np.abs(made - wanted.clip(0, 255)).max() < 1.3
        assert np.abs(made - wanted.clip(0, 255)).mean() < 0.35


def test_a_video_that_says_nothing_is_tagged_as_it_was_taken(tmp_path: Path) -> None:
    """Players guess by the size, which has changed."""
    source = write_video(tmp_path / "a.mp4", images(2), matrix=2)
    upscale_video(source, tmp_path / "b.mp4", nearest())
    assert (read(tmp_path / "b.mp4")[0].colorspace, read(tmp_path / "b.mp4")[0].color_range) == (6, LIMITED)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_variable_frame_times_are_kept(tmp_path: Path, suffix: str) -> None:
    stamps = [0, 40, 41, 120, 500, 510, 1333]
    source = write_video(tmp_path / f"a{suffix}", images(7), stamps=stamps, time_base=MILLISECOND)
    upscale_video(source, tmp_path / f"b{suffix}", nearest())
    assert times(tmp_path / f"b{suffix}") == times(source)
    assert [round(1000 * second) for second in times(source)] == stamps


def test_sound_title_and_rate_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_video(tmp_path / "a.mp4", images(60), sound=True)
    made = upscale_video(source, tmp_path / "b.mp4", nearest())
    assert made.notes == ()
    assert packets(tmp_path / "b.mp4", "audio") == packets(source, "audio")
    with av.open(str(source)) as given, av.open(str(tmp_path / "b.mp4")) as result:
        assert result.metadata["title"] == "a title"
        assert result.streams.video[0].average_rate == given.streams.video[0].average_rate == 25
        assert result.streams.audio[0].duration == given.streams.audio[0].duration
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_subtitles_are_kept(tmp_path: Path) -> None:
    text = "1\n00:00:00,000 --> 00:00:01,000\nHello\n\n2\n00:00:01,000 --> 00:00:02,000\nthere\n"
    (tmp_path / "a.srt").write_text(text)
    picture = write_video(tmp_path / "picture.mkv", images(50))
    with (
        av.open(str(picture)) as video,
        av.open(str(tmp_path / "a.srt")) as words,
        av.open(str(tmp_path / "a.mkv"), "w") as both,
    ):
        streams = [both.add_stream_from_template(each.streams[0]) for each in (video, words)]
        for container, stream in zip((video, words), streams, strict=True):
            for packet in container.demux():
                if packet.size:
                    packet.stream = stream
                    both.mux(packet)
    upscale_video(tmp_path / "a.mkv", tmp_path / "b.mkv", nearest())
    assert [line.decode() for line in packets(tmp_path / "b.mkv", "subtitles")] == ["Hello", "there"]
    assert len(read(tmp_path / "b.mkv")) == 50


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "ffv1"])
def test_the_header_is_that_of_the_segments(tmp_path: Path, codec: str) -> None:
    """The result's stream is described by an encoder that never ran: it must say what the segments say."""
    source = write_video(tmp_path / "a.mp4", images(5))
    target = tmp_path / "b.mkv"
    kept = []
    clear = video_segments.Segments.clear

    def reading(self: video_segments.Segments) -> None:
        with av.open(str(self.paths[0])) as container:
            kept.append(bytes(container.streams.video[0].codec_context.extradata or b""))
        clear(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video_segments.Segments, "clear", reading)
        upscale_video(source, target, nearest(), codec=codec)
    with av.open(str(target)) as container:
        extradata = bytes(container.streams.video[0].codec_context.extradata or b"")
    if codec == "libx264":  # Matroska stores the same parameter sets in a form of its own
        sets = [unit for unit in kept[0].split(b"\0\0\0\1") if unit and unit[0] & 31 in (7, 8)]
        assert len(sets) == 2
        assert all(unit in extradata for unit in sets)
    else:
        assert extradata == kept[0]
    assert len(read(target)) == 5


def test_a_turned_video_comes_out_upright(tmp_path: Path) -> None:
    """A phone held upright writes lying frames and how to turn them."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[: HEIGHT // 2, : WIDTH // 2] = 255  # top left
    source = write_video(tmp_path / "a.mp4", [image] * 3, turned=90)
    turns = round(read(source)[0].rotation / 90) % 4
    assert turns in (1, 3)
    for channels in (1, 3):
        upscale_video(source, tmp_path / f"{channels}.mp4", nearest(channels))
        result = read(tmp_path / f"{channels}.mp4")[0]
        assert (result.width, result.height, result.rotation) == (2 * HEIGHT, 2 * WIDTH, 0)
        expected = np.rot90(image[:, :, 0], turns).repeat(2, 0).repeat(2, 1) / 255
        shown = (planes(result)[0].astype(float) - 16) / 219
        assert np.abs(shown - expected).mean() < 0.02


def test_odd_sides_are_made_even(model: Path, tmp_path: Path) -> None:  # noqa: F811
    source = write_video(tmp_path / "a.mkv", images(3, 41, 53), codec="ffv1", form="yuv444p")
    made = upscale_video(source, tmp_path / "b.mkv", open_upscaler(model))
    assert made.size == (160, 124)
    assert any("made even" in note for note in made.notes)
    assert (read(tmp_path / "b.mkv")[0].width, read(tmp_path / "b.mkv")[0].height) == (160, 124)


def test_other_containers_become_mkv(model: Path, tmp_path: Path) -> None:  # noqa: F811
    write_video(tmp_path / "a.avi", images(3), codec="mpeg4")
    assert run(tmp_path / "a.avi", "--model", model, "--out", tmp_path / "out", "--codec", "mpeg4") == 0
    (made,) = (tmp_path / "out").iterdir()
    assert made.name == "a_x3.mkv"
    with av.open(str(made)) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
    assert len(read(made)) == 3


def test_the_command_tells_what_it_made(
    model: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_video(tmp_path / "a.mp4", images(5))
    arguments = (tmp_path / "a.mp4", "--model", model, "--out", tmp_path / "b.mp4", "--crf", 30, "--json")
    assert run(*arguments) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert (result["state"], result["frames"], result["size"]) == ("made", 5, [3 * WIDTH, 3 * HEIGHT])
    assert run(*arguments) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["state"] == "skipped"


def test_pictures_and_videos_mixed(
    model: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command of the document: a folder, a glob and a video, through a checkpoint's integers."""
    monkeypatch.chdir(tmp_path)
    for name in ("photos/a.png", "more/b.png", "more/c.jpg"):
        Path(name).parent.mkdir(exist_ok=True)
        Image.fromarray(noise(24, 32)).save(name)
    write_video(Path("clip.mp4"), images(3))
    ckpt = model.parent.parent / "models" / "net_g_latest.pth"
    assert run("photos", "more/*.png", "clip.mp4", "--model", ckpt, "--out", "large") == 0
    assert sorted(path.name for path in Path("large").iterdir()) == ["a_x3.png", "b_x3.png", "clip_x3.mp4"]
    expected = open_upscaler(model).pixels(noise(24, 32))
    assert np.array_equal(np.array(Image.open("large/a_x3.png")), expected)


@pytest.mark.slow
def test_the_benchmark_measures_both(model: Path) -> None:  # noqa: F811
    tool = ROOT / "tools" / "bench_upscale.py"
    arguments = [tool, model, "--frames", "2", "--rounds", "1", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(done.stdout.splitlines()[-1])
    ((bare, upscaled),) = result["rounds"]
    assert result["ratio"] == upscaled / bare > 0


@pytest.mark.parametrize(("threads", "shares"), [(1, [1]), (2, [1, 1]), (5, [2, 3])])
def test_threads_are_shared_out_among_frames(model: Path, threads: int, shares: list[int]) -> None:  # noqa: F811
    """Two frames at a time, on other interpreters, give the same pixels."""
    whole = open_upscaler(model, threads=threads)
    parts = whole.shared_out(2)
    assert [part.file.origin.threads for part in parts] == shares
    assert len({id(part.file.origin) for part in parts}) == len(shares)
    image = noise(40, 56)
    for part in parts:
        assert np.array_equal(part.pixels(image), whole.pixels(image))
        assert np.array_equal(part.pixels(image[:, :, :1]), whole.pixels(image[:, :, :1]))
    alone = nearest()
    assert alone.shared_out(2) == [alone]


MEMORY = """
import re, sys, time
from pathlib import Path
from mobilesr_plugin.upscaling.upscaler import Upscaler, open_upscaler
from mobilesr_plugin.upscaling.video import upscale_video
from mobilesr_plugin.upscaling.video_frames import FrameWriter

def slowly(work):
    def run(*given):
        time.sleep(0.01)
        return work(*given)
    return run

upscaler = open_upscaler(Path(sys.argv[1]))
owner, name = {"network": (Upscaler, "pixels"), "encoder": (FrameWriter, "frame")}[sys.argv[2]]
setattr(owner, name, slowly(getattr(owner, name)))
for source in sys.argv[3:]:
    upscale_video(Path(source), Path(f"{source}.mkv"), upscaler)
    # Not ru_maxrss, which begins with the memory of the process that started this one.
    print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("slow", "limit"), [("network", 0.67), ("encoder", 2)])
def test_memory_does_not_grow_with_the_length(model: Path, tmp_path: Path, slow: str, limit: float) -> None:  # noqa: F811
    """Frames would pile up before a slow network, and results before a slow encoder."""
    height, width = 240, 320
    few, many = 40, 240
    pictures = images(16, height, width)
    sources = [
        write_video(tmp_path / f"{count}.mp4", [pictures[index % 16] for index in range(count)])
        for count in (few, many)
    ]
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(model), slow, *map(str, sources)],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    after_few, after_many = (1024 * int(each) for each in done.stdout.split())
    read = (many - few) * height * width * 3  # bytes; results have nine times as many
    assert after_many - after_few < limit * read


# Going on


def test_segments_join_to_what_one_run_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped by a failure after two segments: what is finished is used, and not made anew."""
    source = write_video(tmp_path / "a.mp4", images(30), sound=True)
    monkeypatch.setattr("mobilesr_plugin.upscaling.video.SEGMENT_FRAMES", 8)
    upscale_video(source, tmp_path / "whole.mp4", nearest())

    upscaler = nearest()
    pixels, ran = upscaler.pixels, []

    def failing(image: np.ndarray) -> np.ndarray:
        ran.append(1)
        if len(ran) == 21:
            time.sleep(0.5)  # the encoder finishes what it has
            raise KeyboardInterrupt
        return pixels(image)

    monkeypatch.setattr(upscaler, "pixels", failing)
    target = tmp_path / "b.mp4"
    with pytest.raises(KeyboardInterrupt):
        upscale_video(source, target, upscaler)
    assert not target.exists()
    left = tmp_path / ".b.mp4.unfinished"
    assert sorted(path.name for path in left.iterdir()) == ["00000.nut", "00001.nut", "job.json"]
    assert json.loads((left / "job.json").read_text())["frames"] == [8, 8]
    ran.clear()
    ran += [1] * 100
    assert upscale_video(source, target, upscaler).frames == 30
    assert len(ran) == 100 + 14
    assert packets(target, "video") == packets(tmp_path / "whole.mp4", "video")
    assert times(target) == times(tmp_path / "whole.mp4")
    assert not left.exists()


def test_segments_of_another_job_are_not_used(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", images(3))
    target = tmp_path / "b.mp4"
    segments = video_segments.Segments(target, {"a": 1})
    segments.add(lambda file: file.write(b"123"))
    assert video_segments.Segments(target, {"a": 1}).frames == 3
    assert upscale_video(source, target, nearest()).frames == 3
    assert len(read(target)) == 3


@pytest.mark.slow
def test_ctrl_c_keeps_finished_segments_and_the_next_run_goes_on(
    model: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    source = write_video(tmp_path / "a.mp4", images(700), sound=True)
    target = tmp_path / "out" / "a_x3.mp4"
    arguments = command(source, "--model", model, "--out", target.parent)
    process = subprocess.Popen(
        arguments,
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests may run in the background
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    job = target.parent / ".a_x3.mp4.unfinished" / "job.json"
    until = time.monotonic() + 100
    while not job.exists():
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert error.splitlines()[-1].startswith("mobilesr: interrupted")
    assert not target.exists()
    assert 0 < sum(json.loads(job.read_text())["frames"]) < 700
    assert not [path for path in job.parent.iterdir() if path.name.startswith(".")]
    done = subprocess.run(arguments, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "700 frames" in done.stdout
    assert times(target) == times(source)
    assert packets(target, "audio") == packets(source, "audio")
    assert [path.name for path in target.parent.iterdir()] == ["a_x3.mp4"]


# Failures


@pytest.mark.slow
@pytest.mark.parametrize("size", [5_000, 20_000, 70_000])
def test_a_disk_that_fills_up(model: Path, tmp_path: Path, size: int) -> None:  # noqa: F811
    """In the first frames of a segment, where closing the file fails once more, and later."""
    source = write_video(tmp_path / "a.mp4", images(150))
    out = tmp_path / "out"
    done = subprocess.run(
        command(source, "--model", model, "--out", out),
        env=environment(),
        capture_output=True,
        text=True,
        preexec_fn=limited(size),
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "cannot be written: File too large" in done.stderr.splitlines()[-1]
    assert not [path for path in out.rglob("*") if path.is_file()]


@pytest.mark.parametrize("kind", ["mp4", "faststart", "mkv", "empty", "text", "sound"])
def test_what_is_no_whole_video_is_said(
    model: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    """Half downloaded, with the index at the end, at the start or nowhere; empty; text; sound alone."""
    source = tmp_path / f"a.{'mkv' if kind == 'mkv' else 'mp4'}"
    options = {"movflags": "faststart"} if kind == "faststart" else {}
    write_video(source, images(80), sound=True, options=options)
    whole = source.read_bytes()
    if kind == "sound":
        with av.open(str(source)) as given, av.open(str(tmp_path / "b.mp4"), "w") as made:
            copy = made.add_stream_from_template(given.streams.audio[0])
            for packet in given.demux(audio=0):
                if packet.size:
                    packet.stream = copy
                    made.mux(packet)
        source = tmp_path / "b.mp4"
    else:
        content = {"empty": b"", "text": b"<html>not found</html>"}.get(kind, whole[: len(whole) // 2])
        source.write_bytes(content)
    write_video(tmp_path / "good.mp4", images(2))
    assert run(source, tmp_path / "good.mp4", "--model", model, "--out", tmp_path / "out") == 1
    expected = {
        "faststart": "it is cut short, for example half downloaded",
        "mkv": "it is cut short, for example half downloaded",
        "sound": "holds no video stream",
    }
    assert expected.get(kind, "cannot be read as a video") in stated(capsys)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good_x3.mp4"]


@pytest.mark.parametrize(("preset", "control"), [(None, b"rc=cqp"), ("veryfast", b"rc=crf")])
def test_quality_and_preset_of_libx264(tmp_path: Path, preset: str | None, control: bytes) -> None:
    source = write_video(tmp_path / "a.mp4", images(6))
    sizes = []
    for crf in (0, 2, 18, 40):
        target = tmp_path / f"{crf}.mkv"
        upscale_video(source, target, nearest(), crf=crf, preset=preset)
        sizes.append(target.stat().st_size)
        assert control in target.read_bytes() or crf == 0  # what x264 writes about itself
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[1]
    upscale_video(source, tmp_path / "lossless.mkv", nearest(), codec="ffv1")
    for exact, made in zip(read(tmp_path / "lossless.mkv"), read(tmp_path / "0.mkv"), strict=True):
        assert all(np.array_equal(*pair) for pair in zip(planes(exact), planes(made), strict=True))


def test_an_unknown_codec_is_said_before_the_work(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", images(2))
    with pytest.raises(OptionError, match="codec is 'h999', which PyAV has no video encoder for"):
        upscale_video(source, tmp_path / "b.mp4", nearest(), codec="h999")
    with pytest.raises(OptionError, match="codec is 'aac'"):
        upscale_video(source, tmp_path / "b.mp4", nearest(), codec="aac")
    with pytest.raises(OptionError, match="preset is 'quick'; it must be one of ultrafast, superfast"):
        upscale_video(source, tmp_path / "b.mp4", nearest(), preset="quick")


def test_a_damaged_middle_is_said(tmp_path: Path) -> None:
    """FFmpeg hides what it can; where nothing can be decoded any more, the place is named."""
    source = write_video(tmp_path / "a.mkv", images(60), codec="ffv1")
    content = bytearray(source.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    source.write_bytes(content)
    with pytest.raises(UnreadableVideoError):
        upscale_video(source, tmp_path / "b.mkv", nearest())
    assert not (tmp_path / "b.mkv").exists()
