"""What the inference forms of both networks have in common: the trained network as it is, and when to arrange it."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable

import torch

from .network import FusionNetwork


class InferenceForm(FusionNetwork):
    """A trained network arranged for speed; moved to another device or precision, it is arranged anew.

    Args:
        trained: the form keeps a copy of it.
    """

    def __init__(self, trained: FusionNetwork) -> None:
        super().__init__(
            trained.ms_bands,
            trained.guide_bands,
            trained.ratio,
            stride=trained.stride,
            smallest=trained.smallest,
            train_steps=trained.train_steps,
        )
        self.trained = copy.deepcopy(trained).requires_grad_(False)
        self.eval()
        self._arrange_where_it_is()

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True):
        # What is folded and packed is no parameter, so torch moves the trained network alone.
        super()._apply(fn, recurse)
        if self._arranged_for != self._place():
            self._arrange_where_it_is()
        return self

    def _arrange_where_it_is(self) -> None:
        with torch.no_grad():
            self._arrange()
        self._arranged_for = self._place()

    def _place(self) -> tuple[torch.dtype, torch.device]:
        weight = next(self.trained.parameters())
        return weight.dtype, weight.device

    @abstractmethod
    def _arrange(self) -> None:
        """Fold and pack the weights of ``trained`` as they are now."""
