"""Compares a fused image with the truth and with two other methods: a table and a picture."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.baselines import bicubic, gdal_pansharpen
from fusion_core.errors import FusionError
from fusion_core.quality import assess_reduced
from fusion_core.raster.geotiff import read_bands

LOWER_IS_BETTER = ("SAM", "ERGAS")
COLOURS = ("#e6550d", "#2ca25f", "#756bb1")
"""Frames of the three details, the same on the overview and around the details."""


def main(arguments: list[str] | None = None) -> int:
    """Prints the table and writes ``comparison.png``."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("pan", "ms", "reference", "fused", "folder"):
        parser.add_argument(f"--{name}", required=True, type=Path)
    parser.add_argument("--label", default="SSDiff", help="name of the method that made --fused")
    options = parser.parse_args(arguments)
    try:
        pan, ms, reference, fused = (
            read_bands(str(path))
            for path in (options.pan, options.ms, options.reference, options.fused)
        )
        results = {
            "bicubic": bicubic(options.pan, options.ms),
            "gdal_pansharpen": gdal_pansharpen(options.pan, options.ms),
            options.label: fused[0],
        }
        ratio = round(pan[0].shape[1] / ms[0].shape[1])
        figures = {
            name: assess_reduced(reference[0], image, ratio) for name, image in results.items()
        }
    except FusionError as error:
        print(error, file=sys.stderr)
        return 1
    print(table(figures, reference[0].shape[0]))
    options.folder.mkdir(parents=True, exist_ok=True)
    picture = options.folder / "comparison.png"
    draw(picture, pan[0], ms[0], reference[0], reference[1].band_names, results, figures, ratio)
    print(f"\n{picture}")
    return 0


def metric_title(name: str, bands: int) -> str:
    """What a metric is called for so many bands."""
    return f"Q{1 << (bands - 1).bit_length()}" if name == "Q2n" else name


def winners(figures: dict[str, dict[str, float]]) -> dict[str, str]:
    """The method with the best value of each metric."""
    metrics = next(iter(figures.values()))
    return {
        metric: (min if metric in LOWER_IS_BETTER else max)(
            figures, key=lambda method, metric=metric: figures[method][metric]
        )
        for metric in metrics
    }


def table(figures: dict[str, dict[str, float]], bands: int) -> str:
    """The figures as aligned text; * marks the best of each column."""
    best = winners(figures)
    width = max(len("method"), *map(len, figures))
    titles = [metric_title(metric, bands) for metric in best]
    senses = ["lower" if metric in LOWER_IS_BETTER else "higher" for metric in best]
    lines = [
        f"{'method':{width}}" + "".join(f"{title:>10}" for title in titles),
        f"{'':{width}}" + "".join(f"{sense:>10}" for sense in senses),
        "-" * (width + 10 * len(titles) + 1),
    ]
    for method, values in figures.items():
        cells = "".join(
            f"{value:>10.4f}{'*' if best[metric] == method else ' '}"[1:]
            for metric, value in values.items()
        )
        lines.append(f"{method:{width}} {cells}".rstrip())
    lines.append("* best; against the noise-free truth, one MS pixel of border left out")
    return "\n".join(lines)


@dataclass(frozen=True)
class Stretch:
    """Turns bands into colours: black points for each band, one white point and gamma for all."""

    bands: tuple[int, int, int]
    black: np.ndarray
    white: float
    gamma: float = 0.7

    @classmethod
    def of(cls, image: np.ndarray, names: tuple[str, ...]) -> Stretch:
        """From an image (C, H, W): true colour where the band names tell, the first three bands otherwise."""
        wanted = ("Red", "Green", "Blue")
        known = {name: index for index, name in enumerate(names)}
        if all(name in known for name in wanted):
            bands = tuple(known[name] for name in wanted)
        else:
            bands = tuple(range(3)) if len(image) > 2 else (0, 0, 0)
        shown = image[list(bands)].astype(np.float64)
        black = np.percentile(shown, 0.5, axis=(1, 2))
        white = float(np.percentile(shown - black[:, None, None], 99.3))
        return cls(bands, black, max(white, 1e-9))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Colours (H, W, 3), 0..1, of an image (C, H, W)."""
        shown = image[list(self.bands)].astype(np.float64) - self.black[:, None, None]
        return np.moveaxis(np.clip(shown / self.white, 0, 1) ** self.gamma, 0, -1)


def grey(pan: np.ndarray) -> np.ndarray:
    """Grey levels (H, W, 3), 0..1, of PAN (1, H, W)."""
    low, high = np.percentile(pan, (0.5, 99.5))
    level = np.clip((pan[0] - low) / max(high - low, 1e-9), 0, 1) ** 0.75
    return np.repeat(level[..., None], 3, axis=2)


def pick_details(colours: np.ndarray, ratio: int, side: int, count: int) -> list[tuple[int, int]]:
    """Upper left corners of the colourful places with the most that MS cannot show, apart from each other.

    Args:
        colours: true image (H, W, 3), 0..1.
        ratio: PAN pixels per MS pixel.
        side: PAN pixels along a side of a detail.
        count: details wanted.
    """
    height, width = (size // ratio for size in colours.shape[:2])
    blocks = colours[: height * ratio, : width * ratio].reshape(height, ratio, width, ratio, 3)
    lost = blocks.std(axis=(1, 3)).mean(axis=2)
    seen = blocks.mean(axis=(1, 3))
    hue = seen - seen.mean(axis=2, keepdims=True)
    size = side // ratio
    step = max(1, size // 4)
    places = []
    for row in range(0, height - size + 1, step):
        for col in range(0, width - size + 1, step):
            part = np.s_[row : row + size, col : col + size]
            score = lost[part].mean() * hue[part].std(axis=(0, 1)).mean()
            places.append((score, row * ratio, col * ratio))
    chosen: list[tuple[int, int]] = []
    for _, row, col in sorted(places, reverse=True):
        if all(max(abs(row - r), abs(col - c)) >= 1.15 * side for r, c in chosen):
            chosen.append((row, col))
        if len(chosen) == count:
            break
    return chosen


def draw(
    path: Path,
    pan: np.ndarray,
    ms: np.ndarray,
    reference: np.ndarray,
    band_names: tuple[str, ...],
    results: dict[str, np.ndarray],
    figures: dict[str, dict[str, float]],
    ratio: int,
) -> None:
    """Draws the overview, the table and the details side by side, all in one stretch."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Rectangle

    stretch = Stretch.of(reference, band_names)
    ours = list(results)[-1]
    columns = {"PAN": grey(pan), "MS": stretch(ms)}
    columns |= {name: stretch(image) for name, image in results.items()}
    columns["truth"] = stretch(reference)
    side = min(96, min(reference.shape[1:]) // 2 // ratio * ratio)
    details = pick_details(columns["truth"], ratio, side, len(COLOURS))
    pyplot.rcParams.update({"font.family": "DejaVu Sans", "font.size": 11})

    unit, gap, left, head = 2.3, 0.09, 0.35, 6.5
    wide = 2 * left + len(columns) * (unit + gap) - gap
    tall = head + len(details) * (unit + gap) + 0.62
    figure = pyplot.figure(figsize=(wide, tall), facecolor="white")

    def place(x: float, y: float, width: float, height: float):
        """Axes in inches from the upper left corner."""
        axes = figure.add_axes((x / wide, 1 - (y + height) / tall, width / wide, height / tall))
        axes.set_xticks([])
        axes.set_yticks([])
        return axes

    big = 5.4
    for x, name in ((left, "MS"), (left + big + 0.2, ours)):
        axes = place(x, 0.85, big, big)
        axes.imshow(
            columns[name], interpolation="nearest", extent=(0, pan.shape[2], pan.shape[1], 0)
        )
        title = f"{name}, as delivered" if name == "MS" else f"{name}, fused"
        axes.set_title(title, loc="left", fontsize=12, fontweight="bold", pad=5)
        for (row, col), colour in zip(details, COLOURS):
            frame = Rectangle((col, row), side, side, fill=False, edgecolor=colour, linewidth=2.2)
            axes.add_patch(frame)
    figure.text(
        left / wide,
        1 - 0.32 / tall,
        "Pansharpening of a synthetic scene",
        fontsize=17,
        fontweight="bold",
    )
    _draw_table(
        place(left + 2 * big + 0.45, 0.85, wide - 2 * left - 2 * big - 0.45, big),
        figures,
        len(reference),
    )

    for line, ((row, col), colour) in enumerate(zip(details, COLOURS)):
        for number, (name, image) in enumerate(columns.items()):
            top = head + 0.4 + line * (unit + gap)
            axes = place(left + number * (unit + gap), top, unit, unit)
            scale = ratio if name == "MS" else 1
            part = image[row // scale : (row + side) // scale, col // scale : (col + side) // scale]
            axes.imshow(part, interpolation="nearest")
            for spine in axes.spines.values():
                spine.set(color=colour, linewidth=2.2)
            if line == 0:
                weight = "bold" if name == ours else "normal"
                axes.set_title(name, fontsize=12, fontweight=weight, pad=5)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_table(axes, figures: dict[str, dict[str, float]], bands: int) -> None:
    best = winners(figures)
    axes.axis("off")
    axes.set_xlim(0, 1)
    axes.set_ylim(len(best) + 0.25, -0.12)
    for row, metric in enumerate(best):
        sense = "lower is better" if metric in LOWER_IS_BETTER else "higher is better"
        axes.text(0, row + 0.05, metric_title(metric, bands), fontsize=12, fontweight="bold")
        axes.text(1, row + 0.05, sense, fontsize=9, color="#777777", ha="right")
        longest = max(values[metric] for values in figures.values()) or 1
        for number, (method, values) in enumerate(figures.items()):
            y = row + 0.2 + 0.25 * number
            mine = best[metric] == method
            axes.barh(
                y,
                0.84 * max(values[metric], 0) / longest,
                height=0.2,
                color="#3182bd" if mine else "#c6dbef",
            )
            weight = "bold" if mine else "normal"
            ink = "white" if mine else "#222222"
            axes.text(0.02, y, method, va="center", fontsize=9.5, fontweight=weight, color=ink)
            axes.text(
                1,
                y,
                f"{values[metric]:.3f}",
                va="center",
                ha="right",
                fontsize=9.5,
                fontweight=weight,
            )


if __name__ == "__main__":
    sys.exit(main())
