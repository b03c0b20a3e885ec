"""Frame rate of ``mobilesr upscale`` on a video, against the bare interpreter on the same file.

Both run alternately in one process with the same number of threads: the interpreter is invoked once for each
frame, with nothing else, then the whole command's work is done on the video. Example:

    python tools/bench_upscale.py experiments/abpn_x3_qat/export/abpn_x3_int8_360x640.tflite
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

from mobilesr_plugin.runtimes import TFLiteRunner
from mobilesr_plugin.upscaling.upscaler import open_upscaler
from mobilesr_plugin.upscaling.video import upscale_video
from mobilesr_plugin.upscaling.video_source import import_av, scan

HEIGHT, WIDTH = 360, 640
RATE = 30


def main() -> None:
    """Prints frames in a second of both, for each round, and the median of their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path, help="a .tflite file")
    parser.add_argument("--video", type=Path, help="default: a made one of 640x360")
    parser.add_argument("--frames", type=int, default=600, help="of the made video")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--codec", help="see mobilesr upscale")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        video = arguments.video or moving_picture(Path(scratch) / "made.mp4", arguments.frames)
        rounds = measure(video, Path(scratch), arguments)
    ratios = [upscaled / bare for bare, upscaled in rounds]
    for bare, upscaled in rounds:
        sys.stdout.write(f"bare {bare:.2f}/s, upscale {upscaled:.2f}/s, ratio {upscaled / bare:.3f}\n")
    result = {"threads": arguments.threads, "ratio": statistics.median(ratios), "rounds": rounds}
    sys.stdout.write(json.dumps(result) + "\n")


def measure(video: Path, scratch: Path, arguments: argparse.Namespace) -> list[tuple[float, float]]:
    """Returns frames in a second of the interpreter and of the whole work, for each round."""
    info = scan(video)
    upscaler = open_upscaler(arguments.model, threads=arguments.threads)
    runner = TFLiteRunner(arguments.model, threads=arguments.threads)
    runner(np.full((1, info.height, info.width, runner.channels), 128, np.uint8))
    rounds = []
    for number in range(arguments.rounds + 1):  # the first warms up
        started = time.perf_counter()
        for _ in range(info.packets):
            runner.invoke()
        between = time.perf_counter()
        made = upscale_video(video, scratch / f"{number}.mp4", upscaler, codec=arguments.codec)
        ended = time.perf_counter()
        rounds.append((info.packets / (between - started), made.frames / (ended - between)))
    return rounds[1:]


def moving_picture(path: Path, frames: int) -> Path:
    """Writes a seeded picture that moves, with some noise, as video has."""
    av = import_av()
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (HEIGHT // 24, WIDTH // 20, 3), dtype=np.uint8)
    large = av.VideoFrame.from_ndarray(coarse, format="rgb24").reformat(2 * WIDTH, HEIGHT).to_ndarray()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "23"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(frames):
            start = 2 * number % WIDTH
            part = large[:, start : start + WIDTH].astype(np.int16)
            part = np.clip(part + generator.integers(-3, 4, part.shape), 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(part, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


if __name__ == "__main__":
    main()
