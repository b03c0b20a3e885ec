"""Weights of one form of SESR for another: expanded and collapsed, PReLU and ReLU, x2 and x4."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from mobilesr_plugin.archs.linear_block import LinearBlock, collapse_kernels, expand_kernel, identity_kernel
from mobilesr_plugin.archs.sesr_arch import SESR
from mobilesr_plugin.errors import CheckpointError, OptionError

State = dict[str, torch.Tensor]

LAST_BLOCK = "conv_last"


def convert_state(state: Mapping[str, torch.Tensor], network: SESR) -> State:
    """Returns weights in the form that ``network`` has, so that they load strictly.

    * Expanded parameters become collapsed kernels for a network of plain convolutions, and the other
      way round; so do parameters of another expanded width. The function stays the same up to float32
      rounding. Blocks that already have the right form are passed on as they are.
    * PReLU's slopes are dropped for a ReLU network, which changes the function: it is a start for
      training. A PReLU network gets slopes of zero for weights with ReLU, which is the same function.

    Other entries are passed on, for the loader to judge.

    Args:
        state: Weights of a SESR network, by name.
        network: Where they shall be loaded; it is not changed.

    Raises:
        CheckpointError: a block is not of the shape that the network needs.
    """
    return _convert(state, network, skipped=())


def transfer_x2(state_x2: Mapping[str, torch.Tensor], network_x4: SESR) -> tuple[State, list[str], list[str]]:
    """Starts an x4 network from an x2 network, as the original means to: all blocks but the last move.

    (In the original's ``train.py`` an assignment stands where a call was meant, so nothing moves.)

    Args:
        state_x2: Weights of an x2 network of the same width and channels, in any form.
        network_x4: The x4 network; it is not changed.

    Returns:
        A whole state for ``network_x4``; names of its tensors that come from the x2 network; names of
        those that are the network's own.

    Raises:
        OptionError: the network is not x4.
        CheckpointError: the weights are not those of a matching x2 network.
    """
    if network_x4.upscale != 4:
        raise OptionError(f"x2 weights start an x4 network, but this one has upscale {network_x4.upscale}")
    held = _kernel_of(state_x2, LAST_BLOCK, residual=False)
    expected = 4 * network_x4.num_in_ch
    if held is None or len(held) != expected:
        found = "no last block" if held is None else f"a last block with {len(held)} output channels"
        raise CheckpointError(
            f"the transfer needs weights of an x2 SESR with {network_x4.num_in_ch} channel(s), whose last "
            f"block has {expected} output channels; got {found} (x4 weights load without the transfer)"
        )
    converted = _convert(state_x2, network_x4, skipped=(LAST_BLOCK,))
    result, moved, kept = {}, [], []
    for name, own in network_x4.state_dict().items():
        if name.startswith(f"{LAST_BLOCK}."):
            kept.append(name)
            result[name] = own
            continue
        if name not in converted or converted[name].shape != own.shape:
            raise CheckpointError(
                f"the x2 weights have no {name} of shape {tuple(own.shape)}; the two networks need the same "
                "num_block, num_feat and bias"
            )
        moved.append(name)
        result[name] = converted[name]
    return result, moved, kept


def _convert(state: Mapping[str, torch.Tensor], network: SESR, skipped: tuple[str, ...]) -> State:
    result = dict(state)
    for name, block, residual in network.blocks():
        if name not in skipped:
            _convert_block(result, name, block, residual)
    for index, activation in enumerate(network.activations):
        name = f"activations.{index}.weight"
        if not isinstance(activation, nn.PReLU):
            result.pop(name, None)
        elif name not in result and _kernel_of(state, f"body.{index}", residual=True) is not None:
            result[name] = torch.zeros_like(activation.weight)
    return result


def _convert_block(state: State, name: str, block: nn.Module, residual: bool) -> None:
    """Brings one block's entries in ``state`` into the form of ``block``, in place."""
    kernel = _kernel_of(state, name, residual)
    if kernel is None:
        return
    linear = isinstance(block, LinearBlock)
    assert isinstance(block, (LinearBlock, nn.Conv2d))
    expected = block.collapsed()[0].shape if isinstance(block, LinearBlock) else block.weight.shape
    if kernel.shape != expected:
        raise CheckpointError(
            f"{name} in the checkpoint convolves {_described(kernel.shape)}, the network's convolves "
            f"{_described(expected)}; check num_in_ch, num_feat and upscale"
        )
    if linear and f"{name}.expand" in state and state[f"{name}.expand"].shape == block.expand.shape:
        return
    for part in ("weight", "expand", "project"):
        state.pop(f"{name}.{part}", None)
    if isinstance(block, LinearBlock):
        num_expand = block.expand.shape[0]
        expand, project = expand_kernel(kernel, num_expand, block.identity)
        state[f"{name}.expand"], state[f"{name}.project"] = expand, project
    else:
        state[f"{name}.weight"] = kernel


@torch.no_grad()
def _kernel_of(state: Mapping[str, torch.Tensor], name: str, residual: bool) -> torch.Tensor | None:
    """Returns the collapsed kernel of a block in ``state``, in whichever form it is there."""
    if f"{name}.weight" in state:
        return state[f"{name}.weight"]
    expand, project = state.get(f"{name}.expand"), state.get(f"{name}.project")
    if expand is None or project is None:
        return None
    if expand.ndim != 4 or project.ndim != 4 or expand.shape[0] != project.shape[1]:
        raise CheckpointError(f"{name} in the checkpoint is damaged: its two kernels do not fit each other")
    fits = residual and expand.shape[1] == project.shape[0]
    return collapse_kernels(expand, project, identity_kernel(expand, len(project)) if fits else None)


def _described(shape: torch.Size) -> str:
    if len(shape) != 4:
        return f"with a kernel of shape {tuple(shape)}"
    return f"{shape[1]} to {shape[0]} channels with {shape[2]}x{shape[3]}"
