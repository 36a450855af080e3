"""Model folders that somebody else made, to harm or by mistake: each is to be refused in one line, within memory, and
nothing in them is run.

  python tests/attacks/hostile.py
"""

import json
import os
import pickle
import resource
import shlex
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[n]) for n in (1, 2)]  # where `attacks` and `genzoo` are

from attacks.outcome import Outcome, judged, options, report, run  # noqa: E402

WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
PRIOR = "prior.safetensors"
COMMAND = "sample hostile --n 1 --out s.png"
MARK = Path("ran")  # what a pickle would leave that is run
MOST_GIB = 2.0  # more memory than so much is a failed attack


class Runs:
    """Its pickle runs code when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (MARK.absolute(),)


def config(folder: Path, **changes: Any) -> None:
    """Changes the settings of a model; `arch_X` those of its networks."""
    path = folder / "config.json"
    content = json.loads(path.read_bytes())
    content["arch"] |= {key.removeprefix("arch_"): value for key, value in changes.items() if key.startswith("arch_")}
    content |= {key: value for key, value in changes.items() if not key.startswith("arch_")}
    content.pop("_checksum", None)
    path.write_text(json.dumps(content), encoding="utf-8")


def header(folder: Path, name: str, content: object, size: int | None = None) -> None:
    """Writes a safetensors file with such a header."""
    text = json.dumps(content).encode()
    (folder / name).write_bytes(struct.pack("<Q", len(text) if size is None else size) + text + bytes(64))


def index(folder: Path, name: object) -> None:
    """Weights in parts, of which one is elsewhere."""
    os.rename(folder / WEIGHTS, folder / "part.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": "part.safetensors", "b": name}}), encoding="utf-8")


def link(folder: Path, name: str, target: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)


def pickled(folder: Path, name: str, instead_of: str) -> None:
    """A pickle in the place of a file."""
    (folder / instead_of).unlink(missing_ok=True)
    (folder / name).write_bytes(pickle.dumps(Runs()))


def code(folder: Path) -> None:
    """Python beside the model, as custom code of other libraries."""
    (folder / "model.py").write_text(f"open({str(MARK.absolute())!r}, 'w')", encoding="utf-8")
    config(folder, auto_map={"AutoModel": "model.Model"}, _class_name="model.Model")


F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HUGE = {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}
FOLDERS: dict[str, Callable[[Path], Any]] = {
    **{f"z_dim = {n}": partial(config, arch_z_dim=n) for n in (2**40, 10**6, 0, -1, 1e300, "8", None)},
    **{f"channels of {len(n)}": partial(config, arch_channels=n) for n in ([8] * 60, [8] * 100_000, [2**16] * 8, [])},
    "channels as text": partial(config, arch_channels="9" * 100),
    **{
        f"shape {n}": partial(config, shape=n)
        for n in ([3, 2**20, 2**20], [0, 0, 0], [3], [3, 16], None, "3x16", [[3]])
    },
    **{f"preset {n!r}": partial(config, preset=n) for n in ("../vae", "os.system", "", 5, "vae.", "x" * 10_000)},
    **{f"class {n!r}": partial(config, _class_name=n) for n in ("../VAE", "IntroVAE", 5, None, "os.system")},
    "an unknown key": partial(config, unknown=1),
    "classes of a million": partial(config, classes=["a"] * 10**6),
    "a config of 20 MB": lambda folder: config(folder, notes=["x" * 100] * 200_000),
    "a config that nests": lambda folder: (folder / "config.json").write_bytes(b'{"a":' * 200_000),
    "a trunk of timm": partial(config, arch_encoder="timm:resnet50", arch_pretrained=True),
    "a trunk of the hub": partial(config, arch_encoder="timm:hf-hub:owner/evil"),
    "an encoder that is a path": partial(config, arch_encoder="../../evil"),
    "quantization": partial(config, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
    "data with a path": partial(config, data={"name": "/etc/passwd", "column": "x"}),
    "data as a number": partial(config, data=5),
    "custom code": code,
    "an index with ../": partial(index, name="../../secret.safetensors"),
    "an index with a path": partial(index, name="/etc/passwd"),
    "an index of a drive": partial(index, name="C:\\secret.safetensors"),
    "an index of a number": partial(index, name=5),
    "an index of a pickle": partial(index, name="part.bin"),
    "an index of itself": partial(index, name=INDEX),
    "an index that is a list": lambda folder: (folder / INDEX).write_text("[]"),
    "a part that is missing": partial(index, name="other.safetensors"),
    "weights that link to a device": partial(link, name=WEIGHTS, target="/dev/zero"),
    "weights that link to nothing": partial(link, name=WEIGHTS, target="nowhere"),
    "weights that link in a circle": partial(link, name=WEIGHTS, target=WEIGHTS),
    "a config that links to a device": partial(link, name="config.json", target="/dev/zero"),
    "a config that links in a circle": partial(link, name="config.json", target="config.json"),
    "a prior that links to a device": partial(link, name=PRIOR, target="/dev/zero"),
    "pickled weights": partial(pickled, name="diffusion_pytorch_model.bin", instead_of=WEIGHTS),
    "a pickle called weights": partial(pickled, name=WEIGHTS, instead_of=WEIGHTS),
    "a pickle called a prior": partial(pickled, name=PRIOR, instead_of=PRIOR),
    "a pickle called a config": partial(pickled, name="config.json", instead_of="config.json"),
    "a header of 2**60 bytes": partial(header, name=WEIGHTS, content={}, size=2**60),
    "a tensor of 4 TB": partial(header, name=WEIGHTS, content={"a": HUGE}),
    "tensors that overlap": partial(header, name=WEIGHTS, content={"a": F32, "b": F32}),
    "a tensor of another name": partial(header, name=WEIGHTS, content={"a": F32}),
    "a header that is a list": partial(header, name=WEIGHTS, content=[]),
    "a prior of 4 TB": partial(header, name=PRIOR, content={"__metadata__": {"format": "gmm"}, "a": HUGE}),
    "a prior of another format": partial(header, name=PRIOR, content={"__metadata__": {"format": "x"}, "a": F32}),
    "a prior without tensors": partial(header, name=PRIOR, content={"__metadata__": {"format": "genzoo-mixture"}}),
}


def attacks(model: Path) -> Iterator[Outcome]:
    """Makes each hostile folder from a copy of a model, in the working folder, and samples from it."""
    status, _, errors = run(shlex.split(f"sample {model} --n 1 --out s.png"))
    assert status == 0, errors
    expected = Path("s.png").read_bytes()
    for name, make in FOLDERS.items():
        shutil.rmtree("hostile", ignore_errors=True)
        shutil.copytree(model, "hostile")
        make(Path("hostile"))
        Path("s.png").unlink(missing_ok=True)
        before = peak_gib()
        status, out, errors = run(shlex.split(COMMAND))
        same = status == 0 and Path("s.png").read_bytes() == expected
        if MARK.exists() or peak_gib() - before > MOST_GIB:
            yield Outcome(name, "silent", "code was run" if MARK.exists() else f"{peak_gib():.1f} GiB", "hostile")
            MARK.unlink(missing_ok=True)
        else:
            yield judged(name, status, out, errors, same, "hostile")


def peak_gib() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    from attacks.material import command

    options(__doc__ or "", len(FOLDERS), "has no effect: all are tried").parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)
        os.environ["GENZOO_CACHE"] = f"{temporary}/cache"
        sizes = "--images 96 --set data.limit=64 --set arch.channels=4,8 --set arch.z_dim=4 --set train.batch=8"
        command(f"train vae --res 16 --out run {sizes}")
        found = report(attacks(Path("run/model")), len(FOLDERS))
        os.chdir("/")
    raise SystemExit(min(found, 100))
