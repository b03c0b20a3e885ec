"""What the ranks of a distributed run see, put together."""

from __future__ import annotations

import torch
from torch import distributed


def gathered(batch: torch.Tensor) -> torch.Tensor:
    """Returns the batches of all ranks, in their order, on each of them: (N, ...) -> (ranks * N, ...)."""
    batch = batch.detach().contiguous()
    parts = [torch.empty_like(batch) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, batch)
    return torch.cat(parts)
