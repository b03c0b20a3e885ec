"""Whether a traced network does all that the network does.

Tracing follows values. Of what changes a value where it lies it sees only the result.
"""

from __future__ import annotations

import operator

import torch
from torch import fx, nn

from mobilesr_plugin.errors import UnsupportedNetworkError
from mobilesr_plugin.graph.channels import image_channels
from mobilesr_plugin.graph.plain import Conv

_CHECKED_SIZE = (12, 15)


def refuse_overwritten_values(network: str, traced: fx.GraphModule) -> None:
    """In a graph nothing changes its input, so an operation in place must be the last to read its own."""
    order = {node: place for place, node in enumerate(traced.graph.nodes)}
    for node in traced.graph.nodes:
        if node.op == "call_module":
            in_place = getattr(traced.get_submodule(node.target), "inplace", False)
        else:
            in_place = node.target in (operator.iadd, operator.imul) or node.kwargs.get("inplace", False)
        source = node.args[0] if node.args else None
        if not in_place or not isinstance(source, fx.Node):
            continue
        later = [reader.name for reader in source.users if order[reader] > order[node]]
        if later:
            raise UnsupportedNetworkError(
                f"{network}: {node.name} overwrites {source.name}, which {later[0]} reads afterwards; let it "
                "write a new value (inplace=False, or y = x + z instead of y += z)"
            )


@torch.no_grad()
def check_function(name: str, network: nn.Module, traced: fx.GraphModule) -> None:
    """Runs both on a small image: tracing sees neither ``x += y`` nor what Python code does besides."""
    first = next((module for module in traced.modules() if isinstance(module, Conv)), None)
    if first is None:
        return  # nothing that could be lowered
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, image_channels(traced), *_CHECKED_SIZE, generator=generator)
    image = image.to(first.weight)
    try:
        expected, got = network(image.clone()), traced(image.clone())
    except Exception as error:  # PyTorch's own types, one for each way to fail
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        shape = ", ".join(map(str, image.shape))
        raise UnsupportedNetworkError(f"{name} cannot run on an image of ({shape}): {reason}") from error
    finite = torch.isfinite(expected)
    # The same operations on the same numbers; kernels may add in another order: far below 1 % of the largest.
    bound = 0.01 * float(expected[finite].abs().max()) if finite.any() else 0.0
    if expected.shape != got.shape or ((expected - got)[finite].abs() > bound).any():
        raise UnsupportedNetworkError(
            f"{name} computes something else than its operations in order do; a value that is changed in "
            "place (inplace=True, x += y) must not be read again, so write y = x + z instead of x += z"
        )
