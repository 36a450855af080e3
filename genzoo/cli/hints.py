"""What to type instead of an option that a verb does not have: genzoo's own name of what other programs call so."""

import contextlib
import dataclasses
import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from genzoo.errors import UsageError, shown

OPTIONS = {  # options of other programs, without dashes -> genzoo's
    **dict.fromkeys(("dataset", "data_path", "data_dir", "dataroot", "datadir", "train_dir", "input"), "--data"),
    **dict.fromkeys(("output", "output_dir", "outdir", "logdir", "log_dir", "save_dir", "workdir", "outputs"), "--out"),
    **dict.fromkeys(("size", "resolution", "image_size", "img_size", "imgsize", "image_resolution"), "--res"),
    **dict.fromkeys(("epoch", "num_epochs", "max_epochs", "nepochs", "n_epochs", "num_train_epochs"), "--epochs"),
    **dict.fromkeys(("nimg", "num_images", "n_images", "total_nimg"), "--images"),
    **dict.fromkeys(("num", "num_samples", "n_samples", "samples", "count"), "--n"),
    **dict.fromkeys(("num_steps", "n_steps", "frames", "num_frames"), "--steps"),
    **dict.fromkeys(("random_seed", "manual_seed", "manualseed"), "--seed"),
    "seed": "--seeds",
    **dict.fromkeys(("delete", "remove", "clean", "purge"), "--clear"),
    **dict.fromkeys(("metric", "scores"), "--metrics"),
    **dict.fromkeys(("metrics", "score"), "--scores"),
    **dict.fromkeys(("time", "minutes", "hours", "max_time"), "--budget"),
}
FIELDS = {  # options of other programs -> a setting
    **dict.fromkeys(("learning_rate", "lr_enc", "lr_dec", "lr_e", "lr_d", "lr_g"), "train.lr"),
    **dict.fromkeys(("batch_size", "bs", "batchsize", "train_batch_size"), "train.batch"),
    **dict.fromkeys(("num_workers", "n_workers", "num_threads_data"), "train.workers"),
    **dict.fromkeys(("num_threads",), "train.threads"),
    **dict.fromkeys(("gradient_accumulation_steps", "grad_accum", "accum"), "train.accumulate"),
    **dict.fromkeys(("gradient_checkpointing",), "train.checkpointing"),
    **dict.fromkeys(("latent_dim", "zdim", "z_size", "latent_size", "latents", "nz"), "arch.z_dim"),
    **dict.fromkeys(("amp", "fp16", "bf16", "mixed_precision", "half"), "train.precision"),
    **dict.fromkeys(("grad_clip", "clip_grad", "max_grad_norm", "gradient_clip_val"), "train.clip"),
    **dict.fromkeys(("log_interval", "print_every", "log_steps"), "train.log_every"),
    **dict.fromkeys(("save_every", "save_interval", "save_steps", "snap", "checkpoint_every"), "train.snapshot_every"),
    **dict.fromkeys(("ema_decay", "ema_rate"), "train.ema"),
    **dict.fromkeys(("beta1", "beta2", "adam_beta1", "adam_beta2"), "train.betas"),
    **dict.fromkeys(("flip", "hflip", "horizontal_flip"), "data.mirror"),
    **dict.fromkeys(("wandb", "tensorboard", "report_to", "logger", "tracker"), "train.trackers"),
    **dict.fromkeys(("save_total_limit", "max_checkpoints"), "train.keep"),
}
LAUNCH = "for N GPUs or processes, start with `torchrun --standalone --nproc_per_node N -m genzoo {verb} ...`"
DEVICE = "the GPU is taken where there is one; to choose one, start with `CUDA_VISIBLE_DEVICES=1 genzoo {verb} ...`"
STEPS = "--set train.duration={value}it counts steps, --images N counts images"
ADVICE = {  # options of other programs -> what is done here
    **dict.fromkeys(("gpus", "n_gpus", "num_gpus", "ngpu", "nproc", "nproc_per_node", "num_processes"), LAUNCH),
    **dict.fromkeys(("devices", "world_size", "distributed", "ddp"), LAUNCH),
    **dict.fromkeys(("device", "gpu", "gpu_id", "gpu_ids", "cuda", "mps"), DEVICE),
    **dict.fromkeys(("cpu", "no_cuda", "use_cpu"), "`CUDA_VISIBLE_DEVICES= genzoo {verb} ...` computes on the CPU"),
    **dict.fromkeys(("preset", "recipe"), "a preset is a part of the model's name: `genzoo train MODEL.{value}`"),
    **dict.fromkeys(
        ("model", "arch", "net", "network"), "the model is named without an option: `genzoo {verb} {value}`"
    ),
    **dict.fromkeys(("resume", "resume_from", "checkpoint", "ckpt", "restore"), "`genzoo train --resume RUN` resumes"),
    **dict.fromkeys(("config", "cfg", "config_file"), "`genzoo train --config FILE` takes a run.json or a TOML file"),
    **dict.fromkeys(("steps", "iterations", "iters", "iter", "max_steps", "niter", "n_iter", "num_steps"), STEPS),
    **dict.fromkeys(("kimg", "total_kimg"), "--images {value}k counts images"),
    **dict.fromkeys(("name", "run_name", "exp_name"), "--out RUN names the run folder"),
}
TAKE_MODEL = ("train", "sample", "reconstruct", "interpolate", "encode", "eval", "ood", "suggest")
ONLY = {  # advice that holds for some verbs only
    LAUNCH: ("train", "eval"),
    STEPS: ("train",),
    **dict.fromkeys((ADVICE["kimg"], ADVICE["preset"], ADVICE["name"]), ("train",)),
    ADVICE["model"]: TAKE_MODEL,
}
CLOSE = 0.75  # similarity from which on an option is meant


def unrecognized(verb: str, options: Sequence[str], given: Sequence[str], unknown: Sequence[str]) -> UsageError:
    """Makes the error of what argparse left over.

    Args:
        verb: `train`; "" for genzoo itself.
        options: the verb's long options.
        given: what was typed after the verb.
        unknown: what argparse did not recognize; it may hold values of other options.
    """
    option = next((text for text in unknown if re.match(r"--?[A-Za-z]", text)), None)
    command = f"genzoo {verb}".rstrip()
    if option is None:
        return UsageError(f"{command} takes no further argument {shown(unknown[0])}.{_missed(given, unknown[0])}")
    written, _, value = option.partition("=")
    after = given[given.index(option) + 1 :] if option in given else []
    value = value or next((text for text in after[:1] if not text.startswith("-")), "")
    name = written.lstrip("-").replace("-", "_").lower()
    hint = _meant(name, value, verb, options, given) or _close(name, options, verb, given)
    return UsageError(f"{command} has no option {shown(written)[1:-1]}{hint} See `{command} --help`.")


def _missed(given: Sequence[str], argument: str) -> str:
    """What a left-over argument was meant as: the value of a setting, or of a model's second name."""
    before = list(given[: given.index(argument)]) if argument in given else []
    if len(before) > 1 and before[-2] == "--set" and "=" not in before[-1]:
        return f" Write --set {before[-1]}={argument}."
    return " An option may be missing before it, or quotes around a name with spaces."


def _meant(name: str, value: str, verb: str, options: Sequence[str], given: Sequence[str]) -> str:
    """What is certainly meant: an option or a setting of this name, or of that which other programs use."""
    after = f" {value}" if value else ""
    for option in (f"--{name.replace('_', '-')}", OPTIONS.get(name, "")):
        if option in options:
            return f": write {option}{after}."
    if (advice := ADVICE.get(name)) and (verb or "train") in ONLY.get(advice, (verb or "train",)):
        return f": {advice.format(verb=verb or 'train', value=value or 'VALUE')}."
    name = name.replace("__", ".")
    places = _fields(verb, options, given)
    wanted = [place for place in places if name in (place, place.partition(".")[2], place.replace(".", "_"))]
    wanted = wanted or [place for place in places if place == FIELDS.get(name)]
    if not wanted:
        return ""
    return ": write " + " or ".join(f"--set {place}={value or places[place]}" for place in wanted) + "."


def _close(name: str, options: Sequence[str], verb: str, given: Sequence[str]) -> str:
    """What is spelled like it."""
    choices = {option.lstrip("-").replace("-", "_"): option for option in reversed(options)}
    choices |= {other: option for other, option in OPTIONS.items() if option in options and other not in choices}
    places = _fields(verb, options, given)
    for place, value in places.items():
        choices.setdefault(place.partition(".")[2], f"--set {place}={value}")
    choices |= {other: f"--set {place}={places[place]}" for other, place in FIELDS.items() if place in places}
    close = difflib.get_close_matches(name, choices, n=3, cutoff=CLOSE)
    close = close or [text for text in choices if name.startswith(f"{text}_") or text.startswith(f"{name}_")][:3]
    found = dict.fromkeys(choices[text] for text in close)
    return f". Did you mean {' or '.join(found)}?" if found else "."


def _fields(verb: str, options: Sequence[str], given: Sequence[str]) -> dict[str, str]:
    """The settings that the verb's --set takes, `section.field`, with what stands for a value that is not given; of the
    models that are named, else of all.
    """
    if "--set" not in options:
        return {}
    return {
        name: str(not default).lower() if isinstance(default, bool) else "VALUE"
        for name, default in _settings(verb, given)
    }


def _settings(verb: str, given: Sequence[str]) -> Iterator[tuple[str, Any]]:
    from genzoo.configure import section_classes
    from genzoo.registry import get_spec, list_models
    from genzoo.spec import DataConfig

    if verb != "train":
        yield from ((f"data.{field.name}", field.default) for field in dataclasses.fields(DataConfig))
        return
    models = list_models()
    for model in [name for name in (text.partition(".")[0] for text in given) if name in models] or models:
        with contextlib.suppress(UsageError):  # a plugin that cannot be loaded
            for section, cls in section_classes(get_spec(model)).items():
                yield from ((f"{section}.{field.name}", field.default) for field in dataclasses.fields(cls))
