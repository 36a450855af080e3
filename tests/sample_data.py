"""Small files of data for tests."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from genzoo.data import open_dataset
from genzoo.errors import UsageError
from genzoo.spec import DataConfig

CLASSES = {"info": {"features": {"picture": {"_type": "Image"}, "kind": {"_type": "ClassLabel", "names": ["a", "b"]}}}}


def noise(seed: int, height: int = 8, width: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def folder_of(root: Path, count: int = 3, **size: int) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(noise(i, **size)).save(root / f"{i}.png")
    return root


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def refusal(name: object, split: str | None = None, **settings) -> str:
    """The one line with which a dataset is refused."""
    with pytest.raises(UsageError) as caught:
        open_dataset(DataConfig(name=str(name), **settings), split).batch([0])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def parquet_of(path: Path, cells: list, rows: int = 2, column: str = "picture", metadata: dict = CLASSES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({column: cells, "kind": pa.array(range(len(cells)), pa.int64())})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(metadata)}), path, row_group_size=rows)
    return path


def cells(*seeds: int) -> list[dict]:
    return [{"bytes": png(noise(seed)), "path": None} for seed in seeds]


def saved(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path
