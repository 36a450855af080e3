"""Installs small distributions with entry points into a folder, as pip does, for tests of plugins."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from genzoo import plugins


@contextmanager
def installed(
    monkeypatch: pytest.MonkeyPatch, folder: Path, group: str, points: dict[str, str], **modules: str
) -> Iterator[None]:
    """Makes a distribution `elsewhere 1.0` importable, with entry points of one group and the source of its modules."""
    info = folder / "elsewhere-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    lines = [f"{name} = {target}" for name, target in points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(folder)
        plugins.refresh()
        yield
    plugins.refresh()
