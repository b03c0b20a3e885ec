"""The plain modules of a network while it is trained for int8."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from mobilesr_plugin.graph import plain
from mobilesr_plugin.graph.ops import QParams
from mobilesr_plugin.quantization.fake_quant import (
    ActivationQuantizer,
    fake_quantize_slope,
    fake_quantize_weight,
    round_through,
)


class _Quantized:
    """What a module with a quantizer says of its result."""

    output_quantizer: ActivationQuantizer

    def output_qparams(self) -> QParams:
        return self.output_quantizer.qparams()

    def has_given_range(self) -> bool:
        return self.output_quantizer.fixed


class QuantInput(_Quantized, plain.Quantize):
    """The image on its uint8 grid."""

    def __init__(self, quantizer: ActivationQuantizer) -> None:
        super().__init__()
        self.output_quantizer = quantizer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output_quantizer(x)


class _Rounded(_Quantized, nn.Module):
    """A module whose result passes a quantizer."""

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.output_quantizer(super().forward(*inputs))


class QuantAdd(_Rounded, plain.Add):
    """Sum (with its ReLU), then the quantizer of the result."""


class QuantLeakyReLU(_Rounded, nn.LeakyReLU):
    """Leaky ReLU, then the quantizer of the result."""


class QuantUpsampleBilinear(_Rounded, plain.UpsampleBilinear):
    """Bilinear upsampling, rounded to the grid of its input."""


class QuantPReLU(_Rounded, nn.PReLU):
    """PReLU with int8 slopes, then the quantizer of the result."""

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        if not self.output_quantizer.quantizing:
            return super().forward(*inputs)
        (x,) = inputs
        return self.output_quantizer(F.prelu(x, fake_quantize_slope(self.weight)))


class QuantConv(_Quantized, plain.Conv):
    """Convolution with int8 weights, int32 bias, and the quantizer of its result.

    The bias is rounded in the forward pass too: on the device it is an integer in units of
    ``input scale * weight scale``, and in a narrow network that rounding can be seen.
    """

    input_quantizer: ActivationQuantizer

    @classmethod
    def of_conv(
        cls, conv: plain.Conv, input_quantizer: ActivationQuantizer, output_quantizer: ActivationQuantizer
    ) -> QuantConv:
        """Returns a quantized convolution that shares the parameters of ``conv``."""
        made = cls.of(conv)
        assert isinstance(made, QuantConv)
        made._modules = {"output_quantizer": output_quantizer}
        # A reference, not a submodule: the quantizer belongs to the module that makes this one's input.
        object.__setattr__(made, "input_quantizer", input_quantizer)
        return made

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.output_quantizer.quantizing:
            return self.output_quantizer(super().forward(x))
        weight, scales = fake_quantize_weight(self.weight)
        bias = self.bias
        if bias is not None:
            source = self.input_quantizer
            unit = (source.high - source.low).detach() / 255.0 * scales
            bias = round_through(bias / unit) * unit
        out = F.conv2d(x, weight, bias, padding=self.padding, groups=self.groups)
        return self.output_quantizer(F.relu(out, inplace=True) if self.relu else out)


_FORMS: dict[type[nn.Module], type[nn.Module]] = {
    plain.Add: QuantAdd,
    plain.UpsampleBilinear: QuantUpsampleBilinear,
    nn.LeakyReLU: QuantLeakyReLU,
    nn.PReLU: QuantPReLU,
}


def quantized_form(module: nn.Module, output_quantizer: ActivationQuantizer) -> nn.Module:
    """Returns a plain module, other than a convolution, with a quantizer; it shares the parameters."""
    form = _FORMS[type(module)]
    made = form.__new__(form)
    made.__dict__.update(module.__dict__)
    made._parameters = dict(module._parameters)
    made._modules = {"output_quantizer": output_quantizer}
    return made
