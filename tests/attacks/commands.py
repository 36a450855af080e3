"""Command lines that people type and that mean nothing: each is to be refused in one line that names the fix.

Run from the folder of the tests: `python -m attacks.commands`.
"""

import os
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from attacks.outcome import Outcome, cut, judged, report, run

LONG = "9" * 400
WITHOUT_TORCH = (  # (command, a part of the line); refused before torch is imported
    ("", "Which model?"),
    ("introvae --lr 1e-4", "--set train.lr=1e-4"),
    ("--lr 1e-4 introvae", "--set train.lr=1e-4"),
    ("introvae --lr=1e-4", "--set train.lr=1e-4"),
    ("introvae -lr 1e-4", "--set train.lr=1e-4"),
    ("introvae --learning-rate 1e-4", "--set train.lr=1e-4"),
    ("introvae --learning-rat 1e-4", "train.lr"),
    ("introvae --batch 4", "--set train.batch=4"),
    ("introvae --batch-size 4", "--set train.batch=4"),
    ("introvae --batch_size=4", "--set train.batch=4"),
    ("introvae --train.batch 4", "--set train.batch=4"),
    ("introvae --z-dim 64", "--set arch.z_dim=64"),
    ("introvae --zdim 64", "--set arch.z_dim=64"),
    ("introvae --beta 1", "--set objective.beta=1"),
    ("softintrovae --beta-neg 128", "--set objective.beta_neg=128"),
    ("introvae --beta-neg 128", "objective.beta"),
    ("introvae --margin 100", "--set objective.margin=100"),
    ("introvae --workers 4", "--set train.workers=4"),
    ("introvae --mirror true", "--set data.mirror=true"),
    ("introvae --fp16", "--set train.precision="),
    ("introvae --wandb", "--set train.trackers="),
    ("introvae --gpus 2", "torchrun --standalone --nproc_per_node"),
    ("introvae --nproc 2", "torchrun"),
    ("introvae --device cuda:1", "CUDA_VISIBLE_DEVICES"),
    ("introvae --gpu 1", "CUDA_VISIBLE_DEVICES"),
    ("introvae --preset celebahq256", "genzoo train MODEL.celebahq256"),
    ("introvae --steps 500", "train.duration=500it"),
    ("introvae --kimg 500", "--images 500k"),
    ("introvae --num-epochs 5", "--epochs 5"),
    ("introvae --dataset faces", "--data faces"),
    ("introvae --outdir run", "--out run"),
    ("introvae --image-size 64", "--res 64"),
    ("introvae --imagess 5", "Did you mean --images"),
    ("introvae --xyzzy", "has no option --xyzzy"),
    ("introvae images/", "takes no further argument"),
    ("introvae --data my photos", "quotes"),
    ("introvae --set train.lr 1e-4", "--set train.lr=1e-4"),
    ("introvae --set", "expected one argument"),
    ("introvae --data", "expected one argument"),
    ("introvae --images 5 --epochs 5", "not allowed with"),
    ("introvae --budget 3min --images 5", "not allowed with"),
    ("introvae --fast --fast=2", "--fast"),
    ("introvae --data ''", "--data is empty"),
    ("introvae --data=", "--data is empty"),
    ("introvae --out ''", "--out is empty"),
    ("introvae --out ' '", "--out is empty"),
    ("introvae --images ''", "--images is empty"),
    ("introvae --res ''", "--res is empty"),
    ("introvae --budget ''", "--budget is empty"),
    ("introvae --set ''", "--set is empty"),
    ("''", "is empty"),
    ("introvae --set data.name=", "data.name"),
    ("introvea", "Did you mean introvae"),
    ("IntroVAE", "Did you mean introvae"),
    ("./missing", "Unknown model './missing'"),
    ("..", "genzoo train MODEL --data .."),
    ("introvae --data cifar11", "Did you mean cifar10"),
    ("introvae --data CIFAR10", "Did you mean cifar10"),
    ("introvae --data ./missing", "no file or folder"),
    ("introvae --data s3://a/b", "aws s3 sync"),
    ("introvae --budget 3min --data missing.npy", "no file or folder"),
    ("introvae --out='  '", "--out is empty"),
    ("introvae --set data.split=", "should not be empty"),
    ("introvae.celebahq25", "Did you mean celebahq256"),
    ("introvae.celebahq256.x", "has no preset"),
    ("introvea --help", "Did you mean introvae"),
    ("celebahq256", "Unknown model"),
    ("introvae --images many", "write images"),
    ("introvae --images 0", "without an image"),
    ("introvae --images 0k", "without an image"),
    ("introvae --images -5", "not a duration"),
    ("introvae --images 5%", "no share"),
    ("introvae --images 10m", "not a duration"),
    ("introvae --images 1,000", "not a duration"),
    (f"introvae --images {LONG}", "too large"),
    ("introvae --images 1e400", "too large"),
    (f"introvae --epochs {LONG}", "too large"),
    ("introvae --epochs lots", "not a duration"),
    (f"introvae --set train.snapshot_every={LONG}", "too large"),
    (f"introvae --set objective.warmup={LONG}", "too large"),
    (f"introvae --set train.lr_drops={LONG},5%", "too large"),
    ("introvae --seed 1e30", "train.seed"),
    (f"introvae --seed {10**30}", "9223372036854775807"),
    ("introvae --seed -1", "greater than or equal to 0"),
    ("introvae --seed x", "train.seed"),
    (f"introvae --res {'9' * 5000}", "not a resolution"),
    ("introvae --res 0", "not a resolution"),
    ("introvae --res 64x", "not a resolution"),
    ("introvae --res -64", "not a resolution"),
    ("introvae --res 100000", "at most 65536"),
    ("introvae --res big", "write 256"),
    ("introvae --budget 3m", "not a time"),
    ("introvae --budget soon", "not a time"),
    ("introvae --budget 0s", "not a time"),
    ("introvae --set lr=1e-4", "--set train.lr=1e-4"),
    ("introvae --set train.lr", "section.field=value"),
    ("introvae --set optim.lr=1e-4", "train.lr"),
    ("introvae --set trian.lr=1e-4", "train.lr"),
    ("introvae --set train.lrr=1e-4", "Did you mean"),
    ("introvae --set train.z_dim=4", "arch.z_dim"),
    ("introvae --set train.lr=fast", "float, default 0.0002"),
    ("introvae --set train.lr=nan", "finite"),
    ("introvae --set train.lr=1e999", "finite"),
    ("introvae --set train.lr=-1", "greater than 0"),
    ("introvae --set train.lr=0", "greater than 0"),
    ("introvae --set train.lr_of.decoder=-1", "greater than 0"),
    ("introvae --set train.lr_of.decoder=nan", "finite"),
    ("introvae --set train.lr_of=5", "train.lr_of=5"),
    (f"introvae --set train.batch={10**20}", "train.batch"),
    ("introvae --set train.batch=0", "greater than 0"),
    ("introvae --set train.batch=1.5", "integer"),
    ("introvae --set train.betas=2,3", "less than 1"),
    ("introvae --set train.betas=0.9", "tuple"),
    ("introvae --set train.ema=1", "less than 1"),
    ("introvae --set train.device=cuda:1", "CUDA_VISIBLE_DEVICES=1"),
    ("introvae --set train.device=mps", "auto takes the GPU"),
    ("introvae --set train.device=1", "CUDA_VISIBLE_DEVICES=1"),
    ("introvae --set train.precision=fp16", "'fp32'"),
    ("introvae --set train.keep=0", "greater than 0"),
    ("introvae --set train.workers=1000000", "1024"),
    ("introvae --set train.prior=gmm:0", "pattern"),
    (f"introvae --set train.prior=gmm:{LONG}", "pattern"),
    ("introvae --set arch.hidden=-3", "arch.hidden"),
    ("introvae --set arch.hidden=16,-3", "greater than 0"),
    ("introvae --set arch.z_dim=1e11", "1048576"),
    ("introvae --set arch.channels=", "arch.channels"),
    ("introvae --set arch.channels=16,0", "greater than 0"),
    ("introvae --set data.size=0x0", "not a resolution"),
    ("introvae --set data.size=0", "not a resolution"),
    ("introvae --set data.size=big", "data.size=big"),
    ("introvae --set data.limit=0", "greater than 0"),
    ("introvae --set data.fit=squeeze", "'crop'"),
    ("introvae --set objective.margin=-1", "greater than 0"),
    (f"introvae --set train.lr={'[' * 3000}", "train.lr"),
)
OTHER_VERBS = (  # of the same kind
    ("trian introvae", "Did you mean train"),
    ("5", "unknown verb"),
    ("--verison", "Did you mean --version"),
    ("--data x train introvae", "the verb comes first"),
    ("list modls", "Did you mean models"),
    ("list presets introvea", "Did you mean introvae"),
    ("list data cifar11", "Did you mean cifar10"),
    ("list presets --all", "has no option --all"),
    ("sample", "MODEL"),
    ("sample --nope", "has no option --nope"),
    ("sample missing", "does not exist"),
    ("encode missing", "does not exist"),
    ("reconstruct missing a.png", "does not exist"),
    ("interpolate missing", "does not exist"),
    ("eval missing --metrics rec10_train", "does not exist"),
    ("data missing", "no dataset is called"),
    ("suggest --data ./missing", "no file or folder"),
    ("suggest vae --dataset x", "write --data x"),
    ("interpolate run --num-steps 5", "write --steps 5"),
    ("bench --seed 3", "write --seeds 3"),
    ("bench --workers 2", "has no option --workers. See"),
    ("eval run --batch-size 4", "has no option --batch-size. See"),
    ("list presets --model vae", "has no option --model. See"),
    ("cache --delete", "write --clear"),
    ("--lr 3", "has no option --lr"),
    ("sample run --n two", "whole number"),
    ("sample run --n 0", "at least 1"),
    ("sample run --n -4", "whole number"),
    ("sample run --n 1.5", "whole number"),
    (f"sample run --n {LONG}", "--n"),
    ("sample run --seed -1", "whole number"),
    (f"sample run --seed {10**30}", "too large"),
    ("sample run --temperature 0", "above 0"),
    ("sample run --temperature nan", "above 0"),
    ("sample run --temperature hot", "above 0"),
    ("sample run --grid 4", "rows x columns"),
    ("sample run --grid 0x4", "rows x columns"),
    ("sample run --grid 2x2 --n 5", "leave one out"),
    ("sample run --num-samples 5", "--n 5"),
    ("sample run --batch-size 5", "has no option --batch-size"),
    ("sample ''", "is empty"),
    ("sample run --out ''", "--out is empty"),
    ("reconstruct run --n x", "whole number"),
    ("interpolate run --steps 1", "at least 2"),
    ("interpolate run --steps x", "whole number"),
    ("encode run --out z.csv", ".npz or .safetensors"),
    ("doctor", "RUN"),
    ("doctor missing", "log.jsonl"),
    ("suggest", "--data"),
    ("suggest introvae.toyfaces32 --data x", "is a preset"),
    ("suggest introvae --data x --budget soon", "not a time"),
    ("bench --jobs 0", "at least 1"),
    ("bench --jobs many", "whole number"),
    ("bench --seeds a", "whole numbers"),
    ("bench --data cifar10", "NAME=DATA"),
    ("bench --lr 3", "has no option --lr"),
)
WITH_TORCH = (  # these need a model, data or networks
    ("train introvae --set data.channels=2", "data.channels=3"),
    ("train introvae --data cifar11", "Did you mean cifar10"),
    ("train introvae --data ./missing", "no file or folder"),
    ("train introvae --data afile", "afile"),
    ("train introvae --data empty", "empty"),
    ("train introvae --data nan.npy --images 64", "NaN"),
    ("train introvae --res 50x64 --dry-run", "--res 48x64"),
    ("train introvae --images 64 --set data.limit=64 --out afile/run", "--out"),
    ("train introvae --images 64 --set data.limit=64 --set arch.encoder=cnov", "Did you mean conv"),
    ("train introvae --images 64 --set data.limit=64 --set arch.encoder=timm:resnet81", "Did you mean"),
    ("train introvae --images 64 --set data.limit=64 --set arch.encoder=timm:resnet10t.evil", "timm has no weights"),
    ("train introvae --images 64 --set data.limit=64 --set train.lr_of.decodr=1", "Did you mean decoder"),
    ("train introvae --images 64 --set data.limit=64 --set train.trackers=nothing", "train.trackers"),
    ("train introvae --images 64 --set data.limit=64 --set train.optimizer=adamm", "Did you mean adam"),
    ("train introvae --images 64 --set data.limit=64 --set data.split=tset", "no split"),
    ("train introvae --images 64 --set data.limit=64 --set data.background=blakc", "blakc"),
    ("sample missing", "does not exist"),
    ("sample empty", "no model"),
    ("sample run --prior gauss", "take"),
    ("sample run --out samples.txt", "end it in"),
    ("sample run --out afile/samples.png", "afile"),
    ("reconstruct run missing.png", "there is no file"),
    ("reconstruct run a.png --data digits", "choose one"),
    ("reconstruct run afile", "afile"),
    ("encode run --set train.lr=1", "Unknown section"),
    ("interpolate run a.png", "two"),
    ("eval", "nothing to score"),
    ("eval run --metrics fid", "fid50k_train"),
    ("eval run --metrics rec50_tset", "Did you mean"),
    ("eval run --metrics ,", "--metrics is empty"),
    ("eval run missing --metrics rec10_train", "does not exist"),
    ("eval run --res 64", "--res is for a folder"),
    ("eval run --metric fid50k_train", "--metrics fid50k_train"),
    ("bench no-such-suite", "no-such-suite"),
    ("bench quick --cells nothing", "no cell"),
)


def prepare() -> None:
    """Makes what the commands name, in the working folder."""
    Path("empty").mkdir()
    Path("afile").write_text("text", encoding="utf-8")
    Image.new("RGB", (16, 16)).save("a.png")
    np.save("nan.npy", np.full((8, 3, 32, 32), np.nan, np.float32))
    sizes = "--images 96 --set data.limit=64 --set arch.channels=4,8 --set arch.z_dim=4 --set train.batch=8"
    status, _, errors = run(shlex.split(f"train vae --res 16 --out run {sizes}"))
    assert status == 0, errors


def commands(torch: bool = True) -> list[tuple[str, str]]:
    """Returns (command, a part of the line that refuses it); without torch, those that are refused before it."""
    first = [(f"train {command}", part) for command, part in WITHOUT_TORCH]
    return [*first, *OTHER_VERBS, *(WITH_TORCH if torch else ())]


def attack(table: Sequence[tuple[str, str]]) -> Iterator[Outcome]:
    """Runs the commands; one that is refused for another reason than it should counts as silent."""
    for command, part in table:
        status, out, errors = run(shlex.split(command))
        outcome = judged(cut(f"genzoo {command}"), status, out, errors)
        if outcome.kind == "refused" and part not in errors:
            outcome = Outcome(outcome.attack, "silent", f"not {part!r}: {errors}")
        yield outcome


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        prepare()
        raise SystemExit(report(attack(commands())))
