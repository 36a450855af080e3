"""`genzoo doctor`: what was wrong with a run, when, and what fixes it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from genzoo.cli.tables import print_table
from genzoo.errors import UsageError
from genzoo.runs.names import LOG

if TYPE_CHECKING:
    from genzoo.training.monitor import Finding

DESCRIPTION = """Reads the log of a running, finished or interrupted run and lists the problems that were found, with
step, figures and the option that fixes them. Exit status: 0 the run has no problem, or none that has not ended;
1 it has one; 2 not a run folder.
A run without a monitor is judged by its log alone."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument("run", metavar="RUN", help="run folder")


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    folder = Path(args.run).expanduser()
    if not (folder / LOG).is_file():
        raise UsageError(f"{folder} contains no {LOG}: give the folder of a run, as `genzoo train` names it.")
    from genzoo.runs.folder import damaged_lines
    from genzoo.training.monitor import advice, diagnose

    for sentence in damaged_lines(folder):
        print(f"warning: {sentence}.")
    findings, step, verdict = diagnose(folder)
    if findings:
        _print(findings, step)
    else:
        print(f"{folder}, at step {step:,}: {verdict}.")
    if text := advice(folder):
        print(text)
    return 1 if any(finding.ended is None for finding in findings) else 0


def _print(findings: "list[Finding]", step: int) -> None:
    ends = [f"{found.ended:,}" if found.ended is not None else f"now ({step:,})" for found in findings]
    rows = [
        (f"{found.began:,} to {end}", found.problem, found.text, found.fix)
        for found, end in zip(findings, ends, strict=True)
    ]
    print_table(("steps", "problem", "what was seen", "fix"), rows)
