"""What a run shows: grids of images, scatter and density plots of points, curves of the losses."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from genzoo.errors import UsageError
from genzoo.runs.scores import DISTANCE, PREFIX, REFINED, Scored, measured, scored

GAP = 2  # white pixels between the images of a grid
FPS = 12  # frames per second of animations
ANIMATED = (".gif", ".mp4")
SHOWN = 64  # pixels a side that a small image is enlarged to
DECADES = 10  # largest over smallest size of a panel's values from which its axis is logarithmic
SMALL = 0.05  # share of the values that are below the smallest size counted: a curve may cross zero
AXES = {  # of the panels of curves, by the first part of their names; docs/architecture.md has the names
    "control": "value of a setting",
    "distance": "Fréchet distance",
    "error": "squared error, sum over an item (SSE)",
    "expelbo": "exp(2 ELBO)",
    "gradient": "gradient norm",
    "hinge": "share of generated items",
    "kl": "KL to the prior, nats",
    "loss": "loss, weighted sum",
    "moves": "share of steps",
    "score": "score, lower is better",
    "spread": "standard deviation of the KL, nats",
    "vitals": "vitals, which the monitor reads",
}


def save_grid(rows: Sequence[Tensor], path: Path, zoom: int | None = None) -> None:
    """Writes a PNG whose rows are batches [n, C, H, W] in [0, 1]; shorter rows end in white.

    Of 4 channels the last is alpha; of 2 the first is shown, and of more the first three. Pixels are repeated `zoom`
    times each way; by default, so that small images show at 64 pixels or more.
    """
    image = _as_image(_grid(rows, zoom))
    (image.convert("RGB") if image.mode == "RGBA" and path.suffix.lower() in (".jpg", ".jpeg") else image).save(path)


def _as_image(pixels: np.ndarray) -> Image.Image:
    channels = pixels.shape[-1]
    if channels < 3:
        return Image.fromarray(np.ascontiguousarray(pixels[..., 0]))
    return Image.fromarray(np.ascontiguousarray(pixels[..., : 4 if channels == 4 else 3]))


def _grid(rows: Sequence[Tensor], zoom: int | None = None) -> np.ndarray:
    """Arranges images as `save_grid` says: uint8 [H, W, C]."""
    wide = max(len(row) for row in rows)
    filled = [torch.cat([row, row.new_ones(wide - len(row), *row.shape[1:])]) for row in rows]
    zoom = zoom or math.ceil(SHOWN / min(rows[0].shape[2:]))
    images = torch.stack(filled).float().cpu().clamp(0, 1).repeat_interleave(zoom, -1).repeat_interleave(zoom, -2)
    cells = pad(images, (0, GAP, 0, GAP), value=1.0)
    return rearrange(cells, "r n c h w -> (r h) (n w) c").mul(255).round().byte().numpy()[:-GAP, :-GAP]


def save_animation(frames: Tensor, path: Path) -> None:
    """Writes a GIF or an MP4 that plays frames there and back: [T, n, C, H, W] in [0, 1], n images side by side.

    Raises:
        UsageError: an MP4, and its encoder is not installed.
    """
    there = [_grid([frame]) for frame in frames]
    shown = [*there, *there[-2:0:-1]]
    if path.suffix.lower() == ".gif":
        first, *others = map(_as_image, shown)
        first.save(path, save_all=True, append_images=others, duration=round(1000 / FPS), loop=0)
        return
    try:
        import imageio_ffmpeg  # pyright: ignore[reportMissingImports]  (an extra)
    except ImportError as error:
        raise UsageError(f'{path}: MP4 needs an encoder: pip install "genzoo[video]", or write a .gif.') from error
    height, width = shown[0].shape[:2]
    writer = imageio_ffmpeg.write_frames(str(path), (width, height), fps=FPS, macro_block_size=2)
    writer.send(None)
    for pixels in shown:
        writer.send(np.ascontiguousarray(_as_image(pixels).convert("RGB")))
    writer.close()


@torch.no_grad()
def save_points(
    real: Tensor,
    samples: Tensor | None,
    path: Path,
    extent: float,
    energy: Callable[[Tensor], Tensor] | None = None,
    n_grid: int = 200,
) -> None:
    """Plots 2-D data, samples and, given an energy, the unnormalized density exp(-energy), as Soft-IntroVAE's figure.

    Args:
        real: [n, 2].
        samples: [m, 2]; None = data only.
        path: the PNG to write.
        extent: half-width of the square shown.
        energy: [k, 2] -> [k], on the device of `real`.
        n_grid: density evaluations per side.
    """
    clouds = {"data": real} if samples is None else {"data": real, "samples": samples}
    n_panels = len(clouds) + (energy is not None)
    figure, panels = _subplots(1, n_panels, figsize=(4 * n_panels, 4.4), squeeze=False)
    panels = panels[0]
    for axes, (title, points) in zip(panels, clouds.items(), strict=False):
        axes.scatter(*points.cpu().T.numpy(), s=4, alpha=0.6, linewidths=0)
        axes.set_title(title)
    if energy is not None:
        line = torch.linspace(-extent, extent, n_grid)
        values = energy(torch.cartesian_prod(line, line).to(real.device))
        density = torch.exp(-values).cpu().reshape(n_grid, n_grid).T.numpy()
        panels[-1].imshow(density, extent=(-extent, extent) * 2, origin="lower", cmap="viridis")
        panels[-1].set_title("density, exp(ELBO)")
    for axes in panels:
        axes.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal")
    figure.savefig(path, dpi=100)


def save_curves(
    lines: Sequence[Mapping[str, Any]], guides: Mapping[str, float], path: Path, marks: Sequence[tuple[int, str]] = ()
) -> None:
    """Draws every `panel/curve` of the log over images seen, one panel per prefix, with the objective's guides
    (IntroVAE's Figure 5). Axes have names and units, and are logarithmic where values span decades (`axis_scale`).

    A guide that moves is logged as `guide/panel`. Marks are vertical lines at so many images seen, named in the top
    panel: what the monitor found.
    """
    panels: dict[str, list[str]] = {}
    for name in sorted(
        {name for line in lines for name in line if "/" in name and not name.startswith(("guide/", REFINED))}
    ):
        panels.setdefault(name.partition("/")[0], []).append(name)
    if not panels:
        return
    height = 2.6 * len(panels)  # inches
    # A constrained layout would draw all of it twice.
    figure, axes = _subplots(len(panels), 1, figsize=(9, height), layout="none", sharex=True)
    figure.subplots_adjust(left=0.09, right=0.78, bottom=0.5 / height, top=1 - 0.55 / height, hspace=0.07)
    for (panel, names), ax in zip(panels.items(), np.atleast_1d(axes), strict=True):
        values = []
        for name in names:
            x, y = zip(*((line["nimg"], line[name]) for line in lines if name in line), strict=True)
            ax.plot(x, y, label=name.partition("/")[2], linewidth=1, marker="." if len(x) == 1 else None)
            values += y
        path_of_guide = [(line["nimg"], line[f"guide/{panel}"]) for line in lines if f"guide/{panel}" in line]
        if panel in guides and path_of_guide:  # it moved during the run
            ax.plot(
                *zip(*path_of_guide, strict=True),
                color="black",
                linestyle="--",
                linewidth=1,
                label=f"guide, now {guides[panel]:.4g}",
            )
        elif panel in guides:
            ax.axhline(guides[panel], color="black", linestyle="--", linewidth=1, label=f"guide {guides[panel]:g}")
        scale, options = axis_scale(values)
        ax.set_yscale(scale, **options)
        for nimg, _ in marks:
            ax.axvline(nimg, color="crimson", linestyle=":", linewidth=1)
        ax.set_ylabel(AXES.get(panel, panel), fontsize=8)
        ax.grid(alpha=0.3)
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    for nimg, name in marks:
        top = np.atleast_1d(axes)[0]
        top.annotate(
            name,
            (nimg, 1),
            xycoords=("data", "axes fraction"),
            fontsize=7,
            color="crimson",
            rotation=20,
            annotation_clip=False,
        )
    np.atleast_1d(axes)[-1].set_xlabel("images seen")
    figure.savefig(path, dpi=100)


def axis_scale(values: Sequence[float]) -> tuple[str, dict[str, float]]:
    """Chooses the scale of an axis; returns its name and options, for `set_yscale`.

    `log` where positive values span DECADES or more; `symlog`, linear around zero, where values of both signs, or
    zeros, do so twofold in size; else `linear`.
    """
    sizes = sorted(abs(value) for value in values if value)
    if not sizes:
        return "linear", {}
    if min(values) > 0:
        return ("log" if sizes[-1] >= DECADES * sizes[0] else "linear"), {}
    small = sizes[int(SMALL * len(sizes))]
    return ("symlog", {"linthresh": small}) if sizes[-1] >= DECADES**2 * small else ("linear", {})


def save_quality(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws the snapshots' score over images seen and over minutes of training, and below it each distance that was
    measured besides; the best snapshot of each is marked, and the score with a prior that a flow has refined.

    Args:
        lines: of the log; without a score nothing is drawn.
        path: the PNG to write.
    """
    name, snapshots = scored(lines)
    if not snapshots:
        return
    curves = {name.removeprefix(PREFIX).replace("_", " "): snapshots}
    curves |= {f"Fréchet, {name.removeprefix(DISTANCE)}": found for name, found in measured(lines, DISTANCE).items()}
    height = 3.2 * len(curves)
    figure, rows = _subplots(len(curves), 2, figsize=(9, height), layout="none", sharey="row", squeeze=False)
    figure.subplots_adjust(left=0.1, right=0.98, bottom=0.5 / height, top=1 - 0.3 / height, wspace=0.06, hspace=0.35)
    for panels, (label, found) in zip(rows, curves.items(), strict=True):
        _draw_quality(panels, label, found)
    for ax, place in zip(rows[0], PLACES.values(), strict=True):
        for one in measured(lines, REFINED).get(name.replace(PREFIX, REFINED), []):
            ax.plot(place(one), one.score, "D", color="seagreen", markersize=6, label="with the flow")
            ax.legend()
    figure.savefig(path, dpi=100)


# Of the horizontal axes of `save_quality`.
PLACES: dict[str, Callable[[Scored], float]] = {
    "images seen": lambda one: one.nimg,
    "minutes": lambda one: one.seconds / 60,
}


def _draw_quality(panels: Any, label: str, snapshots: Sequence[Scored]) -> None:
    """One row: over images seen and over minutes."""
    best, values = min(snapshots, key=lambda one: one.score), [one.score for one in snapshots]
    panels[0].set_ylabel(label)
    title = f"lower is better; best: {best.score:.4g} at {best.nimg:,} images, {best.seconds / 60:.1f} minutes"
    panels[0].set_title(title, fontsize=9)
    for ax, (axis, place) in zip(panels, PLACES.items(), strict=True):
        ax.plot([place(one) for one in snapshots], values, marker=".", linewidth=1)
        ax.plot(place(best), best.score, "*", color="crimson", markersize=11)
        ax.set_xlabel(axis)
        ax.grid(alpha=0.3)
    if min(values) > 0 and max(values) > 5 * min(values):
        panels[0].set_yscale("log")


def save_histograms(panels: Mapping[str, Mapping[str, Tensor]], path: Path, bins: int = 60) -> None:
    """Draws overlaid histograms of scores, one panel each, normalized to an area of 1.

    Args:
        panels: title -> name of a set -> values [n], finite.
        path: the PNG to write.
        bins: of each panel, shared by its sets; the outermost are those of 0.5 % and 99.5 % of all values, so that a
            few far ones leave the others visible.
    """
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure, axes = _subplots(rows, columns, figsize=(4.4 * columns, 2.9 * rows), squeeze=False)
    for ax, (title, sets) in zip(axes.flat, panels.items(), strict=False):
        values = torch.cat(list(sets.values())).double()
        low, high = values.quantile(torch.tensor([0.005, 0.995], dtype=torch.float64)).tolist()
        edges = np.linspace(low, high if high > low else low + 1, bins + 1)
        for name, scores in sets.items():
            shown = scores.double().clamp(edges[0], edges[-1]).numpy()
            ax.hist(shown, bins=edges, density=True, alpha=0.5, label=name)
        ax.set_title(title, fontsize=10)
        ax.set_yticks([])
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    axes.flat[0].legend(fontsize=8)
    figure.savefig(path, dpi=100)


def _subplots(*shape: int, **options: Any) -> Any:
    """A figure outside pyplot's global state, so that notebooks and threads are left alone."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=options.pop("figsize"), layout=options.pop("layout", "constrained"))
    return figure, figure.subplots(*shape, **options)
