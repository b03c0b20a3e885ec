"""The arithmetic of a device's integer kernels, exactly: two sets of them.

``xnnpack`` is what TFLite runs on processors unless told otherwise, ``tflite_builtin`` what it runs
without its XNNPACK delegate. Both read and write the same codes and round otherwise. A set is a module
with these functions, each of which prepares one operator and returns it as a module of PyTorch:

* ``requantization(source, weight_scales, output, relu, depthwise, bound)``: a convolution's sums -> codes;
* ``addition(left, right, output, relu)``;
* ``relu(source, output)``, ``leaky_relu(source, output, slope)``, ``prelu(source, output, slopes)``;
* ``resize_bilinear(source, factor, fixed_size)``.

All tensors are (N, C, H, W), float32, and hold *centred* codes, ``code - zero_point``: then 0 stands for
the real value 0, and padding needs no care. Integers below 2^24 are exact in float32.

``docs/quantization.md`` writes the same formulas down for a reader; a test compares them.
"""

from __future__ import annotations

from types import ModuleType

from mobilesr_plugin.errors import OptionError
from mobilesr_plugin.options import KERNELS
from mobilesr_plugin.quantization.kernels import tflite_builtin, xnnpack

_SETS = {"xnnpack": xnnpack, "tflite_builtin": tflite_builtin}
assert set(_SETS) == set(KERNELS)


def kernel_set(name: str) -> ModuleType:
    """Returns the module of a set.

    Raises:
        OptionError: there is no such set.
    """
    if name not in _SETS:
        raise OptionError(f"kernels is {name!r}; it must be one of {', '.join(KERNELS)}")
    return _SETS[name]
