"""Writes README.md of this folder: the pictures and figures of the gallery suites, one table per dataset.

python benchmarks/gallery/page.py
"""

from pathlib import Path

from genzoo.bench.lines import FinishedCell
from genzoo.bench.results import SuiteResults, read_results
from genzoo.bench.tables import number

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
SUITES = {"3min": "three minutes", "30min": "thirty minutes", "3h": "three hours"}
FITTED = "_fitted"  # ends the protocols of samples from the prior that a run was saved with
PICTURES = {"samples-fitted": "Samples", "reconstructions": "Real images and their reconstructions"}
INTRO = """# Gallery

What `genzoo train MODEL --budget 3min`, `30min` and `3h` give: first seed, averaged weights, fixed latents, nothing
selected. The machine had two cores without bf16 instructions. The cells of three minutes ran one at a time, with both
cores; those of thirty minutes and of three hours ran two at a time, with one core each (`--jobs 2`). Seconds leave
out planning; in those of thirty minutes and three hours, and of softintrovae on toyfaces-32, the machine was busy
with other programs after a run was planned (and while that of MNIST was, which is shorter for it); those of three
hours were interrupted and resumed. Samples are drawn from the run's fitted prior: a mixture of Gaussians, or the flow
that refines it, if that scored better. All scores are in [RESULTS.md](../RESULTS.md); samples from N(0, I),
interpolations and curves in `benchmarks/report.html`, which `genzoo bench --report --out benchmarks` writes. FD is
the Fréchet distance on features of a classifier that comes with genzoo; it compares within a dataset only. Cells that
are not in a table have not run yet.

    DATA="--data mnist=FOLDER --data emoji-64=FOLDER --data cifar10=FOLDER"
    genzoo bench gallery-3min --out benchmarks $DATA
    genzoo bench gallery-30min --out benchmarks $DATA --jobs 2
    genzoo bench gallery-3h --out benchmarks $DATA --jobs 2
    python benchmarks/gallery/page.py     # writes this page
"""


def page() -> str:
    """The page as markdown."""
    suites = {budget: read_results(RESULTS / f"gallery-{budget}.jsonl") for budget in SUITES if _has(budget)}
    groups = dict.fromkeys(group for results in suites.values() for group in results.groups)
    return "\n".join([INTRO, *(_dataset(suites, group) for group in groups)])


def _has(budget: str) -> bool:
    return (RESULTS / f"gallery-{budget}.jsonl").is_file()


def _dataset(suites: dict[str, SuiteResults], data: str) -> str:
    """One row per model, one column per budget: pictures above their figures."""
    shown = {budget: results for budget, results in suites.items() if results.cells_of(data)}
    labels = dict.fromkeys(
        label for results in shown.values() for label in results.labels if results.cells_of(data, label)
    )
    lines = [f"## {data}\n", f"| | {' | '.join(SUITES[budget] for budget in shown)} |", f"|---|{'---|' * len(shown)}"]
    for what, title in PICTURES.items():
        for label in labels:
            cells = [_picture(results, data, label, what) for results in shown.values()]
            lines.append(f"| {label}<br>{title} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _picture(results: SuiteResults, data: str, label: str, what: str) -> str:
    cells = results.cells_of(data, label)
    if not cells or what not in cells[0].pictures:
        return "-"
    cell = cells[0]
    image = f"![{label}, {data}: {what}](../results/{cell.pictures[what]})"
    if what != "samples-fitted":
        return image
    assert cell.images_seen is not None and cell.seconds is not None
    run = f"{cell.images_seen:,} images in {cell.seconds:,.0f} s, {cell.precision}, threads: {cell.threads}"
    return "<br>".join([image, run, *_scores(results, data, cell)])


def _scores(results: SuiteResults, data: str, cell: FinishedCell) -> list[str]:
    """The distances of samples from the three priors, and the share of samples that a classifier names surely."""
    values = {
        (score.protocol, name): value
        for score in results.scores
        if score.cell == cell.cell
        for name, value in score.values.items()
    }
    lines = []
    for protocol, name in values:
        if name == "frechet" and protocol.endswith(FITTED):
            own = protocol.removesuffix(FITTED)
            found = (number(values[p, name]) for p in (protocol, f"{own}_gmm", own))
            lines.append("FD {}, of the mixture {}, of N(0, I) {}".format(*found))
    sure = [protocol for protocol, name in values if name == "sure"]
    named = "named with confidence above .9: {:.0%} (real images {:.0%})"
    return lines + [named.format(values[protocol, "sure"], values[protocol, "sure_real"]) for protocol in sure]


if __name__ == "__main__":
    (HERE / "README.md").write_text(page(), encoding="utf-8")
