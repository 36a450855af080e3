"""How long opening a folder of many small files takes, in two checkouts of genzoo, in alternating processes.

    python benchmarks/listing/run.py OLD_CHECKOUT             # against the checkout of this script
    python benchmarks/listing/run.py OLD_CHECKOUT --rounds 2  # 4 processes of each

Protocol: FILES copies of one PNG of 8x8 in FOLDERS folders, in a temporary folder. A process imports one checkout's
genzoo, opens the folder once, and then times `open_dataset(..., cache=False)` TIMES times: listing, a stat of each
file, sorting, the fingerprint, and decoding one image. Processes alternate: old, new, new, old. Printed are each
side's median over processes of each process's median, and their ratio, new / old; at most 1.1 is wanted.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FILES, FOLDERS, TIMES = 20_000, 20, 7
HERE = Path(__file__).resolve().parents[2]
WANTED = 1.1  # new / old


def fill(root: Path) -> None:
    """Writes the folder that is listed."""
    from PIL import Image

    content = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(content, "PNG")
    for number in range(FILES):
        folder = root / f"class {number % FOLDERS}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.png").write_bytes(content.getvalue())


def measure(root: str) -> dict[str, object]:
    """Times openings with the genzoo that this process imports."""
    import genzoo
    from genzoo.data import open_dataset
    from genzoo.spec import DataConfig

    seconds = []
    for _ in range(1 + TIMES):
        began = time.perf_counter()
        size = open_dataset(DataConfig(name=root, cache=False), progress=False).size
        seconds.append(time.perf_counter() - began)
        assert 0.9 * FILES <= size <= FILES, size  # some may be held out
    return {"genzoo": str(Path(genzoo.__file__).resolve().parents[1]), "seconds": statistics.median(seconds[1:])}


def measured(root: str, checkout: Path) -> float:
    """Runs `measure` in a fresh process that imports the genzoo of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--measure", root]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    line = json.loads(done.stdout.splitlines()[-1])
    assert line["genzoo"] == str(checkout), f"{checkout} was not imported"
    return line["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", nargs="?", type=Path, help="another checkout of genzoo")
    parser.add_argument("--rounds", type=int, default=2, help="of four processes (default 2)")
    parser.add_argument("--measure", metavar="FOLDER", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure)))
        return
    if args.old is None:
        parser.error("give another checkout to compare with")
    sides = {"old": args.old.resolve(), "new": HERE}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as root:
        fill(Path(root))
        for _ in range(args.rounds):
            for side in ("old", "new", "new", "old"):
                seconds[side].append(measured(root, sides[side]))
    old, new = (statistics.median(seconds[side]) for side in ("old", "new"))
    print(
        f"{FILES:,} files: old {1000 * old:.0f} ms, new {1000 * new:.0f} ms, ratio {new / old:.2f} (wanted: {WANTED})"
    )


if __name__ == "__main__":
    main()
