"""Loss and gradients of one batch, computed chunk by chunk on several CPU threads.

torch's own threads gain little on batches this small, so every thread works on chunks by itself with a copy of the network
that shares its weights.  Chunks are cut and added up in one order: the bits do not depend on the number of threads.
"""

from __future__ import annotations

import copy
import queue
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import nn

from ..diffusion.objectives import predicted_x0, training_target
from ..models.network import FusionNetwork
from .patches import Batch


@dataclass
class NoisedBatch:
    """A batch with its noise: x_t = alpha x0 + sigma noise at timesteps t; x0, noise and x_t are (B, C, H, W)."""

    batch: Batch
    t: torch.Tensor
    x0: torch.Tensor
    noise: torch.Tensor
    alpha: torch.Tensor
    sigma: torch.Tensor
    x_t: torch.Tensor

    def part(self, start: int, stop: int) -> NoisedBatch:
        """Some of the patches."""
        batch = Batch(*(value[start:stop] for value in vars(self.batch).values()))
        rest = (value[start:stop] for name, value in vars(self).items() if name != "batch")
        return NoisedBatch(batch, *rest)


class Gradients:
    """Computes the gradients of a network's L1 loss.

    Args:
        network: in training mode; its gradients are written, its BatchNorm statistics follow.
        objective: "x0", "eps" or "v".
        bfloat16: whether to compute under autocast.
        chunk: patches of a chunk, 0 for whole batches.
        threads: CPU threads that compute chunks; 1 computes them in the caller's.
    """

    def __init__(
        self,
        network: FusionNetwork,
        objective: str,
        bfloat16: bool,
        chunk: int = 0,
        threads: int = 1,
    ) -> None:
        self.network = network
        self.objective = objective
        self.bfloat16 = bfloat16
        self.chunk = chunk
        self.pool: ThreadPoolExecutor | None = None
        self._copies: queue.SimpleQueue = queue.SimpleQueue()
        if chunk:
            for _ in range(threads):
                self._copies.put(_sharing_weights(network))
        if chunk and threads > 1:
            # OpenMP keeps the number of its threads by thread.
            self.pool = ThreadPoolExecutor(threads, "gradients", torch.set_num_threads, (1,))

    def close(self) -> None:
        """End the threads."""
        if self.pool is not None:
            self.pool.shutdown()

    def __call__(
        self, noised: NoisedBatch, self_conditioned: bool, active: Collection[str] | None = None
    ) -> float:
        """Write the gradients of one batch into the network and give back its loss.

        Args:
            noised: the batch.
            self_conditioned: whether the network is shown its own first estimate.
            active: names of the parameters that learn, None for all; the others have no gradient afterwards.
        """
        names = [n for n, _ in self.network.named_parameters() if active is None or n in active]
        if not self.chunk:
            loss, gradients, _ = self._chunk(self.network, noised, self_conditioned, names)
            self._write(names, gradients)
            return loss
        count = len(noised.x0)
        parts = [
            noised.part(start, min(count, start + self.chunk))
            for start in range(0, count, self.chunk)
        ]

        def work(part: NoisedBatch) -> tuple[float, list, list[torch.Tensor]]:
            replica = self._copies.get()
            try:
                for mine, theirs in zip(replica.buffers(), self.network.buffers()):
                    mine.copy_(theirs)
                return self._chunk(replica, part, self_conditioned, names)
            finally:
                self._copies.put(replica)

        results = list((map if self.pool is None else self.pool.map)(work, parts))
        shares = [len(part.x0) / count for part in parts]
        total: list[torch.Tensor | None] = [None] * len(names)
        for share, (_, gradients, _) in zip(shares, results):
            for i, gradient in enumerate(gradients):
                if gradient is not None:
                    scaled = gradient * share
                    total[i] = scaled if total[i] is None else total[i] + scaled
        self._write(names, total)
        with torch.no_grad():
            for i, buffer in enumerate(self.network.buffers()):
                if buffer.is_floating_point():
                    buffer.copy_(sum(s * b[i] for s, (_, _, b) in zip(shares, results)))
                else:
                    buffer.copy_(results[0][2][i])
        return float(sum(share * loss for share, (loss, _, _) in zip(shares, results)))

    def _write(self, names: list[str], gradients: list[torch.Tensor | None]) -> None:
        parameters = dict(self.network.named_parameters())
        for parameter in parameters.values():
            parameter.grad = None
        for name, gradient in zip(names, gradients):
            parameters[name].grad = gradient

    def _chunk(
        self, network: FusionNetwork, noised: NoisedBatch, self_conditioned: bool, names: list[str]
    ) -> tuple[float, list[torch.Tensor | None], list[torch.Tensor]]:
        """Loss, gradients by parameter, and the BatchNorm statistics afterwards."""
        batch, objective = noised.batch, self.objective
        with torch.autocast(noised.x0.device.type, torch.bfloat16, enabled=self.bfloat16):
            condition = network.prepare(batch.guide, batch.ms, batch.lms)
            estimate = None
            if self_conditioned:
                with torch.no_grad():
                    first = network(noised.x_t, noised.t, condition).float()
                estimate = predicted_x0(first, noised.x_t, noised.alpha, noised.sigma, objective)
            prediction = network(noised.x_t, noised.t, condition, self_cond=estimate)
        target = training_target(noised.x0, noised.noise, noised.alpha, noised.sigma, objective)
        loss = (prediction.float() - target).abs().mean()
        parameters = dict(network.named_parameters())
        gradients = torch.autograd.grad(
            loss, [parameters[name] for name in names], allow_unused=True
        )
        return float(loss.detach()), list(gradients), [b.clone() for b in network.buffers()]


def _sharing_weights(network: FusionNetwork) -> nn.Module:
    """A copy with buffers of its own whose parameters are the network's, in one memory."""
    replica = copy.deepcopy(network)
    for mine, theirs in zip(replica.parameters(), network.parameters()):
        mine.data = theirs.data
    return replica
