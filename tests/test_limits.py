"""Ranges that XNNPACK's kernels accept: what is widened, what goes with it, and what cannot be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from networks import noise
from tensorflow_graph import int8_file

from mobilesr_plugin.errors import UnsupportedNetworkError
from mobilesr_plugin.graph import ops
from mobilesr_plugin.graph.int8 import IMAGE, qparams_of_range
from mobilesr_plugin.graph.limits import widen_ranges
from mobilesr_plugin.options import KERNELS
from mobilesr_plugin.quantization.integer_network import IntegerNetwork
from mobilesr_plugin.runtimes import TFLiteRunner
from mobilesr_plugin.verify.parity import network_runner

NARROW = qparams_of_range(-0.002, 0.003)
WIDE = qparams_of_range(-40.0, 50.0)


def conv(
    name: str, source: str, channels: tuple[int, int], output: ops.QParams, size: float = 1e-3
) -> ops.Conv:
    weight = np.random.default_rng(len(name)).normal(0, size, (*channels, 3, 3)).astype(np.float32)
    bias = np.linspace(-size, size, channels[0], dtype=np.float32)
    return ops.Conv(name=name, inputs=(source,), weight=weight, bias=bias, output=output)


def dying_concatenation() -> ops.Graph:
    """An addition whose scale is more than 2^10 times that of the concatenation that it reads."""
    return ops.Graph(
        (
            ops.Input(name="image", channels=3, output=IMAGE),
            conv("first", "image", (16, 3), NARROW),
            ops.DepthToSpace(name="first_moved", inputs=("first",), block=2, output=NARROW),
            conv("second", "image", (16, 3), NARROW),
            ops.DepthToSpace(name="second_moved", inputs=("second",), block=2, output=NARROW),
            conv("apart", "second_moved", (8, 4), NARROW),
            ops.Concat(name="concat", inputs=("first_moved", "second_moved"), output=NARROW),
            ops.DepthToSpace(name="moved", inputs=("concat",), block=2, output=NARROW),
            ops.DepthToSpace(name="apart_moved", inputs=("apart",), block=2, output=NARROW),
            conv("loud", "apart_moved", (2, 2), WIDE, size=1e4),
            ops.Add(name="sum", inputs=("loud", "moved"), output=WIDE),
            conv("last", "sum", (3, 2), IMAGE),
        )
    )


def test_a_concatenation_is_widened_with_all_its_parts() -> None:
    before = dying_concatenation()
    graph = widen_ranges(before)
    group = ("first", "first_moved", "second", "second_moved", "concat", "moved")
    (shared,) = {graph[name].output for name in group}
    assert shared is not None and shared.scale >= WIDE.scale / 2**10
    assert shared.zero_point == NARROW.zero_point
    assert all(op.output == before[op.name].output for op in graph if op.name not in group)


def test_what_was_widened_runs_as_simulated() -> None:
    graph = widen_ranges(dying_concatenation())
    content, image = int8_file(graph), noise(9, 14)[None]
    for kernels in KERNELS:
        expected = network_runner(IntegerNetwork(graph, kernels))(image)
        assert len(np.unique(expected)) > 10
        assert np.array_equal(TFLiteRunner(content, kernels=kernels)(image), expected)


def test_ranges_that_are_wide_enough_stay() -> None:
    before = ops.Graph(dying_concatenation().ops[:6])
    assert widen_ranges(before) == before


def too_large(name: str) -> ops.Graph:
    """Convolution ``name`` multiplies its input's scale by more than 256 times its own."""
    given = {"first": (1.0, IMAGE), "last": (1.0, IMAGE)} | {name: (1e5, IMAGE)}
    return ops.Graph(
        (
            ops.Input(name="image", channels=3, output=IMAGE),
            *(
                conv(own, source, (3, 3), output, size=size)
                for (own, (size, output)), source in zip(given.items(), ("image", "first"), strict=True)
            ),
        )
    )


@pytest.mark.parametrize(("name", "fixed"), [("last", ()), ("first", ("first",))])
def test_a_given_range_is_never_widened(name: str, fixed: tuple[str, ...]) -> None:
    """The result must stay in steps of 1/255, and a wider range would undo a clamp."""
    with pytest.raises(UnsupportedNetworkError) as caught:
        widen_ranges(too_large(name), fixed)
    assert str(caught.value).startswith(f"{name}: its weights, up to ")
    assert "\n" not in str(caught.value)


def test_a_learned_range_is_widened_for_its_weights() -> None:
    graph = widen_ranges(too_large("first"))
    assert graph["first"].output != IMAGE
    assert graph["last"].output == IMAGE


def test_the_image_and_what_is_made_of_it_stay() -> None:
    """An addition leaves XNNPACK where one of its inputs is far finer than its result; bytes stay known."""
    graph = ops.Graph(
        (
            ops.Input(name="image", channels=3, output=IMAGE),
            ops.Repeat(name="copies", inputs=("image",), times=2, channels=3, output=IMAGE),
            conv("loud", "image", (6, 3), qparams_of_range(-900.0, 900.0), size=1e3),
            ops.Add(name="sum", inputs=("loud", "copies"), output=qparams_of_range(-900.0, 900.0)),
            conv("last", "sum", (3, 6), IMAGE),
        )
    )
    assert widen_ranges(graph) == graph


def test_parts_of_different_quantization_are_refused() -> None:
    before = dying_concatenation()
    other = replace(before["second"], output=WIDE)
    graph = ops.Graph(tuple(other if op.name == "second" else op for op in before))
    with pytest.raises(UnsupportedNetworkError, match=r"second_moved .* moves values .* second"):
        widen_ranges(graph)
