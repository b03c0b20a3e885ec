"""How far two float32 computations of one network may differ: bounds derived from their arithmetic."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

UNIT_ROUNDOFF = 2.0**-24  # of float32
TRIALS, MARGIN = 3, 4


def rounding_bound(network: nn.Module, image: torch.Tensor) -> float:
    """Returns how far two float32 results of a network for one image may be apart.

    Kernels of different processors and memory orders add the n products of a convolution in different
    orders. The rounding errors of such a sum behave like independent ones, so that they reach about
    sqrt(n) * u * sum(|w * x|), not n times (Higham and Mary, "A New Approach to Probabilistic Rounding
    Error Analysis", SIAM J. Sci. Comput. 41(5), 2019). How a network passes them on is measured: in
    float64, with such errors drawn at random behind each convolution (Monte Carlo arithmetic, Parker,
    1997). Two results have an error each, hence 2, and the largest of all pixels over TRIALS draws is
    taken MARGIN times.

    Args:
        network: Anything whose sums are those of Conv2d.
        image: (N, C, H, W), float32.
    """
    noisy = copy.deepcopy(network).double().eval()
    generator = torch.Generator().manual_seed(0)

    def add_errors(conv: nn.Conv2d, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        terms = conv.weight[0].numel() + 1
        bias = None if conv.bias is None else conv.bias.abs()
        sizes = conv._conv_forward(inputs[0].abs(), conv.weight.abs(), bias)
        draws = torch.randn(output.shape, generator=generator, dtype=output.dtype)
        return output + draws * sizes * math.sqrt(terms) * UNIT_ROUNDOFF

    with torch.no_grad():
        exact = noisy(image.double())
        for module in noisy.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(add_errors)
        largest = max((noisy(image.double()) - exact).abs().max().item() for _ in range(TRIALS))
    return 2 * MARGIN * largest


def same_histogram_up_to_neighbours(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two histograms may be of the same values but for rounding, which moves a value by one bin.

    Values move across an edge or do not, and the range of the bins moves by less than a bin itself; so
    the cumulative counts of one lie between those of the other two bins to the left and to the right.

    Args:
        first, second: Counts, (bins,).
    """
    one, other = (torch.cumsum(counts.double(), 0) for counts in (first, second))
    total = one[-1:]
    if not torch.equal(total, other[-1:]):
        return False
    padded = torch.cat([torch.zeros(2, dtype=torch.float64), one, total, total])
    left, right = padded[: len(one)], padded[4:]
    return bool(((left <= other) & (other <= right)).all())
