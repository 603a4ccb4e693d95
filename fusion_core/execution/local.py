"""Tiles computed by torch in this process."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from ..diffusion import noise_field, sample
from ..errors import FusionError
from ..weights import load_network, read_model
from .consistency import toward_measured
from .device import (
    CHUNK,
    default_batch_size,
    fitting_batch_size,
    is_out_of_memory,
    memory_report,
    resolve_device,
    resolve_precision,
    thread_count,
)
from .executor import ExecutorInfo, FusedTiles, OnCall, SamplingPlan, TileBatch

SEED_STRIDE = 1_000_003
"""Distance between the seeds of a job's samples."""
IN_FLIGHT = 2
"""Batches at a time: one computes while another travels to the GPU and back, or fills the threads that it leaves idle."""


class LocalExecutor:
    """Loads the model once and computes batches in this process; see ``Executor``.

    On the CPU every thread computes chunks of the same size by itself, and torch's own threading is switched off for the
    process: torch would split sums among its threads by the size of the batch, and a tile's bits would depend on
    its neighbours.  On a GPU every batch in flight has a stream of its own.

    Raises:
        FusionError: the model cannot be loaded, or the device or precision does not exist here.
    """

    def __init__(self, plan: SamplingPlan) -> None:
        self.plan = plan
        self.device = resolve_device(plan.device)
        model = read_model(plan.model)
        self.card = model.card
        self.dtype = resolve_precision(plan.precision, self.device, self.card.method)
        self.network = load_network(model).inference_form().to(self.device, self.dtype)
        self.network.to(memory_format=torch.channels_last)
        self.serve(plan)
        threads = thread_count(plan.threads)
        self.pool: ThreadPoolExecutor | None = None
        if self.device.type == "cpu":
            torch.set_num_threads(1)
            # Once more in each thread, since OpenMP keeps the number by thread.
            self.pool = ThreadPoolExecutor(threads, "tiles", torch.set_num_threads, (1,))
        self.streams: queue.SimpleQueue[torch.cuda.Stream] = queue.SimpleQueue()
        size = default_batch_size(self.device, threads)
        if self.device.type == "cuda":
            for _ in range(IN_FLIGHT):
                self.streams.put(torch.cuda.Stream(self.device))
            size = fitting_batch_size(self.device, self._tile_memory(), IN_FLIGHT)
        self.info = ExecutorInfo(
            device=_device_name(self.device),
            precision=str(self.dtype).removeprefix("torch."),
            torch_version=torch.__version__,
            batch_size=size,
            in_flight=IN_FLIGHT,
            advice=self.network.advice(),
        )

    def serve(self, plan: SamplingPlan) -> None:
        """Take another job's plan, for the same model, device, precision and threads; between two runs."""
        self.plan = plan
        limits = torch.tensor(plan.value_range, dtype=torch.float32, device=self.device)
        self.value_range = (limits[:, 0, None, None], limits[:, 1, None, None])
        self.largest_batch: int | None = None

    def run(self, batch: TileBatch, on_call: OnCall) -> FusedTiles:
        """See ``Executor.run``; where memory runs out the batch is halved, for this call and all later ones."""
        count = len(batch.origins)
        size = min(count, self.largest_batch or count)
        parts: list[FusedTiles] = []
        start = 0
        while start < count:
            part = _part(batch, start, start + size)
            try:
                parts.append(self._fuse(part, on_call))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                shortage = error
            else:
                start += size
                continue
            self._release()
            if size == 1:
                height, width = batch.lms.shape[-2:]
                raise FusionError(
                    f"One tile of {height} x {width} pixels does not fit into the memory of {self.info.device} "
                    f"({memory_report(self.device)}): close other programs or compute on the CPU."
                ) from shortage
            size = self.largest_batch = max(1, size // 2)
        return _joined(parts)

    def rest(self) -> None:
        """Give back what memory is only kept for speed; the network stays."""
        self._release()

    def close(self) -> None:
        """Free the network's memory."""
        if self.pool is not None:
            self.pool.shutdown()
        self.network = None
        self._release()

    def _fuse(self, batch: TileBatch, on_call: OnCall) -> FusedTiles:
        """Fuse a batch: in one go on a GPU, chunk by chunk in parallel on the CPU."""
        if self.pool is None:
            with self._stream():
                return self._fuse_together(batch, on_call)
        lock = threading.Lock()

        def told(count: int) -> None:
            with lock:
                on_call(count)

        starts = range(0, len(batch.origins), CHUNK)
        chunks = [_part(batch, start, start + CHUNK) for start in starts]
        work = [self.pool.submit(self._fuse_chunk, chunk, told) for chunk in chunks]
        try:
            return _joined([future.result() for future in work])
        finally:
            for future in work:
                future.cancel()

    def _fuse_chunk(self, chunk: TileBatch, on_call: OnCall) -> FusedTiles:
        """Fuse at most ``CHUNK`` tiles, filled up with copies: torch rounds differently where there are fewer."""
        count = len(chunk.origins)
        index = np.minimum(np.arange(CHUNK), count - 1)
        full = TileBatch(*(array[index] for array in vars(chunk).values()))
        tiles = self._fuse_together(full, lambda _: on_call(count))
        return FusedTiles(
            tiles.residual[:count], None if tiles.spread is None else tiles.spread[:count]
        )

    @torch.inference_mode()
    def _fuse_together(self, batch: TileBatch, on_call: OnCall) -> FusedTiles:
        guide, ms, lms = (
            torch.from_numpy(array)
            .to(self.device, self.dtype)
            .contiguous(memory_format=torch.channels_last)
            for array in (batch.guide, batch.ms, batch.lms)
        )
        condition = self.network.prepare(guide, ms, lms)
        # x0 + LMS is kept in range on the tiles as given, not as rounded for the network.
        exact_lms = torch.from_numpy(batch.lms).to(self.device)
        condition = replace(condition, lms=exact_lms)
        correct = None
        if self.card.consistency:
            exact_ms = torch.from_numpy(batch.ms).to(self.device)
            correct = toward_measured(
                exact_ms, exact_lms, self.card.ratio, self.card.mtf_gain, self.card.consistency
            )
        tiles = len(batch.origins)
        draws = [
            sample(
                self.network,
                condition,
                self._noise(batch, self.plan.seed + SEED_STRIDE * number),
                steps=self.plan.steps,
                solver=self.plan.solver,
                grid=self.plan.grid,
                indexing=self.card.indexing,
                objective=self.card.objective,
                value_range=self.value_range,
                self_conditioning=self.card.self_conditioning,
                correct=correct,
                callback=lambda done, calls, x0: on_call(tiles),
            )
            for number in range(self.plan.samples)
        ]
        stack = torch.stack(draws)
        spread = stack.std(dim=0).cpu().numpy() if self.plan.samples > 1 else None
        residual = stack.mean(dim=0) if self.plan.samples > 1 else stack[0]
        return FusedTiles(residual.contiguous().cpu().numpy(), spread)

    def _noise(self, batch: TileBatch, seed: int) -> torch.Tensor:
        bands, height, width = batch.lms.shape[1:]
        fields = [
            noise_field(int(row), int(col), height, width, bands, seed, self.device)
            for row, col in batch.origins
        ]
        return torch.stack(fields).contiguous(memory_format=torch.channels_last)

    @contextmanager
    def _stream(self) -> Iterator[None]:
        """One of the GPU's streams for the calling thread alone."""
        if self.device.type != "cuda":
            yield
            return
        stream = self.streams.get()
        try:
            with torch.cuda.stream(stream):
                yield
        finally:
            self.streams.put(stream)

    def _tile_memory(self) -> int:
        """Bytes that a tile of the model's size takes on the GPU, measured."""
        card, ratio = self.card, self.card.ratio
        bands, coarse = len(self.plan.value_range), card.tile // ratio
        batch = TileBatch(
            guide=np.zeros((CHUNK, self.network.guide_bands, card.tile, card.tile), np.float32),
            ms=np.zeros((CHUNK, bands, coarse, coarse), np.float32),
            lms=np.zeros((CHUNK, bands, card.tile, card.tile), np.float32),
            origins=np.zeros((CHUNK, 2), np.int64),
        )
        held = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        self._fuse_together(batch, lambda count: None)
        # What the networks keep for all batches must be there before other streams use it.
        torch.cuda.synchronize(self.device)
        return (torch.cuda.max_memory_allocated(self.device) - held) // CHUNK

    def _release(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _part(batch: TileBatch, start: int, stop: int) -> TileBatch:
    return TileBatch(*(a[start:stop] for a in (batch.guide, batch.ms, batch.lms, batch.origins)))


def _joined(parts: list[FusedTiles]) -> FusedTiles:
    if len(parts) == 1:
        return parts[0]
    spreads = [part.spread for part in parts]
    return FusedTiles(
        np.concatenate([part.residual for part in parts]),
        None if spreads[0] is None else np.concatenate(spreads),
    )


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
