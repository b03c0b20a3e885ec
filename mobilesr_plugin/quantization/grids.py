"""Which values of a network share a range, and which ranges are given.

A device moves codes, it does not look at them: the result of a pixel shuffle, a concatenation or a
bilinear resize is in the codes of what went in. Such values form a group with one range. The image
and the result are fixed to [0, 1], and a clamp fixes the range of what it limits: saturation does the
rest.
"""

from __future__ import annotations

from torch import fx, nn

from mobilesr_plugin.errors import UnsupportedNetworkError
from mobilesr_plugin.graph import plain
from mobilesr_plugin.graph.channels import channels_of
from mobilesr_plugin.graph.names import unused_name
from mobilesr_plugin.graph.rewrite import called, output_of, sources_of
from mobilesr_plugin.quantization.by_one import add_by_one

Range = tuple[float, float]

IMAGE_RANGE: Range = (0.0, 1.0)
MOVING = (nn.PixelShuffle, plain.RepeatChannels)
KEEPING = (*MOVING, plain.UpsampleBilinear)  # codes stay codes of the same range
ROUNDING = (
    plain.Conv,
    plain.Add,
    plain.UpsampleBilinear,
    nn.LeakyReLU,
    nn.PReLU,
)


class Grids:
    """Groups of values with one range each.

    Args:
        name: The network's, for messages.
        traced: Traced and simplified network; its clamps are removed, and where a value is concatenated
            whose range cannot be that of the others, a convolution by 1 is put in front, which brings
            it to their range.
        image: The node that reads the image, shifted or not.
        image_range: Its range.

    Raises:
        UnsupportedNetworkError: a clamp, or the result, cannot have the range it must have.
    """

    def __init__(self, name: str, traced: fx.GraphModule, image: fx.Node, image_range: Range) -> None:
        self._name, self._traced = name, traced
        self._above: dict[fx.Node, fx.Node] = {}
        self._fixed: dict[fx.Node, Range] = {}
        for node in traced.graph.nodes:
            if isinstance(called(traced, node), KEEPING):
                self._join(node, sources_of(node)[0])
        self._fix(image, image_range, "the image")
        self._absorb_clamps()
        self._fix(output_of(traced), IMAGE_RANGE, "the result")
        for node in list(traced.graph.nodes):
            if isinstance(called(traced, node), plain.Concat):
                self._concatenate(node)

    def group(self, node: fx.Node) -> fx.Node:
        """Returns the node that stands for all values of the same range as ``node``."""
        while node in self._above:
            node = self._above[node]
        return node

    def fixed(self, node: fx.Node) -> Range | None:
        """Returns the given range of a node; None if it is to be found."""
        return self._fixed.get(self.group(node))

    def _join(self, first: fx.Node, second: fx.Node) -> None:
        lower, upper = self.group(first), self.group(second)
        if lower is not upper:
            self._above[lower] = upper
            if lower in self._fixed:
                self._fixed[upper] = self._fixed.pop(lower)

    def _fix(self, node: fx.Node, wanted: Range, what: str) -> None:
        known = self._fixed.setdefault(self.group(node), wanted)
        if known != wanted:
            raise UnsupportedNetworkError(
                f"{self._name}: {what} has range [{wanted[0]:g}, {wanted[1]:g}], but the value that it is "
                f"made of has [{known[0]:g}, {known[1]:g}]; put a convolution or an addition between"
            )

    def _absorb_clamps(self) -> None:
        for node in list(self._traced.graph.nodes):
            clamp = called(self._traced, node)
            if not isinstance(clamp, plain.Clamp):
                continue
            if not clamp.low <= 0 <= clamp.high or clamp.low == clamp.high:
                raise UnsupportedNetworkError(
                    f"{self._name}: {node.name} limits to [{clamp.low:g}, {clamp.high:g}], which is no range "
                    "of int8 codes; a range must hold 0"
                )
            (source,) = sources_of(node)
            if self.fixed(source) != (clamp.low, clamp.high):
                self._check_sole_reader(node)
            self._fix(source, (clamp.low, clamp.high), node.name)
            node.replace_all_uses_with(source)
            self._traced.graph.erase_node(node)

    def _check_sole_reader(self, clamp: fx.Node) -> None:
        pending = sources_of(clamp)
        while pending:
            node = pending.pop()
            if len(node.users) > 1:
                raise UnsupportedNetworkError(
                    f"{self._name}: {clamp.name} limits {node.name}, which is also read without the limit; "
                    "the device saturates when it writes a value, for all who read it"
                )
            if isinstance(called(self._traced, node), (*KEEPING, plain.Concat)):
                pending.extend(sources_of(node))

    def _concatenate(self, node: fx.Node) -> None:
        """Brings the parts of a concatenation to one range, learned where one of them is."""
        parts: list[fx.Node] = list(dict.fromkeys(sources_of(node)))
        if self.fixed(node) is None and len({self.fixed(part) for part in parts}) == 1:
            for part in parts:
                self._join(node, part)
            return
        for part in parts:
            own, target = self.fixed(part), self.fixed(node)
            same = own is not None and own == target
            free = own is None and (target is None or len(part.users) == 1)
            if same or free:
                self._join(part, node)
            else:
                self._requantize(part, node)

    def _requantize(self, part: fx.Node, reader: fx.Node) -> None:
        """Puts a depthwise 1x1 convolution by 1 in front of ``reader``.

        TFLite's converter merges two quantizers that follow each other, so an operator must stand
        between them.
        """
        name = unused_name(self._traced, f"{reader.name}_{part.name}")
        channels = channels_of(self._traced, part)
        add_by_one(self._traced, name, channels, number=len(self._traced.graph.nodes))
        with self._traced.graph.inserting_before(reader):
            requantized = self._traced.graph.call_module(name, (part,))
        reader.replace_input_with(part, requantized)
        self._join(requantized, reader)
