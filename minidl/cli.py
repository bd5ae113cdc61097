"""The command line: `minidl plan`, `train`, `predict`, `evaluate`, and tools around them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from minidl.arguments import count, device, memory, minutes, option, position, positive, sizes, split, whole


def _add_device(command: argparse.ArgumentParser) -> None:
    default = command.argument_default or "cpu"
    command.add_argument("--device", type=device, metavar="DEVICE", default=default,
                         help="where the network lives: cpu, cuda or cuda:N (default: cpu)")  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(
        "minidl", description="Image segmentation with a deep-learning engine you can read."
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    plan = commands.add_parser(
        "plan", help="look at a folder of labelled images and decide how to train on it",
        description="Choose resolution, patch, network and batch by nnU-Net's rules, and say why.",
        argument_default=argparse.SUPPRESS,  # what is not given is left to `job.plan`
    )  # fmt: skip
    plan.add_argument("data", type=Path, metavar="FOLDER", help="as for `minidl train`")
    plan.add_argument("--memory", type=memory, metavar="SIZE", help="of a training step (default: 8GB)")
    plan.add_argument("--minutes", type=minutes, metavar="N",
                      help="of a training on this computer, or 'unlimited' (default: 30)")  # fmt: skip
    plan.add_argument("--rule", choices=("nnunet", "lecture"),
                      help="how often to halve: as nnU-Net, or as the lecture (default: nnunet)")  # fmt: skip
    plan.add_argument("--out", type=Path, metavar="PLAN.JSON", help="where it goes (default: plan.json)")

    train = commands.add_parser(
        "train", help="train a U-Net on a folder of labelled images, or on generated ones",
        description="Train a U-Net. Without --data it learns generated phantoms, in about two minutes.",
        argument_default=argparse.SUPPRESS,  # what is not given is left to `job.train`
    )  # fmt: skip
    train.add_argument(
        "--data", type=Path, metavar="FOLDER", help="a Decathlon, nnU-Net, images/labels or DSB2018 folder"
    )
    train.add_argument("--plan", type=Path, metavar="PLAN.JSON", help="what `minidl plan` decided")
    train.add_argument(
        "--config", metavar="NAME", help="a configuration of the plan (default: the one that it recommends)"
    )
    train.add_argument("--previous", type=Path, metavar="RUN",
                       help="for 3d_cascade_fullres: the run of 3d_lowres, or the folder of its folds, whose "
                       "segmentations it corrects")  # fmt: skip
    train.add_argument(
        "--dims", type=int, choices=(2, 3), help="a 2-D or 3-D network (default: as the images)"
    )
    budget = train.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=positive, help="training time (default: the plan's, or 2)")
    budget.add_argument("--steps", type=count, help="training steps, for a run that can be repeated exactly")
    train.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where the results go (default: a new one in runs/)"
    )
    train.add_argument(
        "--resume", type=Path, metavar="RUN",
        help="go on with the run in this folder, which was killed or interrupted; all else is as it began",
    )  # fmt: skip
    train.add_argument(
        "--classes", nargs="+", metavar="NAME", help="names of the label values, background first"
    )
    train.add_argument("--split", type=split, metavar="A,B,C",
                       help="training, validation, test: counts, or a ratio (default: 10,1,2)")  # fmt: skip
    train.add_argument("--fold", choices=("0", "1", "2", "3", "4", "all"),
                       help="cross-validation: the fifth that validates, or all of them in turn")  # fmt: skip
    train.add_argument(
        "--batch", type=count, help="patches per step (default: the plan's, or 8 in 2-D, 2 in 3-D)"
    )
    train.add_argument("--augmentation", choices=("none", "mirror", "nnunet", "elastic"),
                       help="default: nnunet with a plan; without, mirror pictures alone")  # fmt: skip
    train.add_argument("--optimizer", choices=("adam", "sgd", "adam-plateau"),
                       help="sgd: nnU-Net's; adam-plateau: its first preprint's (default: adam)")  # fmt: skip
    train.add_argument(
        "--learning-rate",
        type=positive,
        help="the first step size (default: 0.003 for adam, 0.01 for sgd)",
    )
    train.add_argument("--seed", type=whole, help="the start of all random numbers (default: 0)")
    train.add_argument(
        "--workers", type=whole, help="threads that make batches (default: 1); changes no result"
    )

    _add_device(train)

    predict = commands.add_parser(
        "predict", help="segment images with a trained network, or with several together"
    )
    predict.add_argument(
        "run", type=Path, help="the folder that `minidl train` left; of cross-validation, that of all folds"
    )
    predict.add_argument(
        "images", type=Path, nargs="+",
        help="NIfTI, PNG, TIFF or JPEG files, or folders of them; more runs before them make an ensemble",
    )  # fmt: skip
    predict.add_argument("--mirror", action=argparse.BooleanOptionalAction,
                         help="average over reflections of each image, which takes 4 or 8 times as long "
                         "(default: where the network was trained on mirrored images)")  # fmt: skip
    predict.add_argument("--crf", action="store_true",
                         help="let the CRF that `minidl crf` fitted to each run correct it")  # fmt: skip
    predict.add_argument(
        "-o", "--out", type=Path, required=True, metavar="FOLDER", help="where the label maps go"
    )
    _add_device(predict)

    crf = commands.add_parser(
        "crf", help="fit the CRF of `minidl predict --crf` to the validation cases of a run",
        description="Choose bandwidths, weights, iterations and compatibility of a CRF by the Dice of the "
        "run's validation cases, or none at all if none is better. Writes crf.json into the run.",
    )  # fmt: skip
    crf.add_argument("run", type=Path, metavar="RUN",
                     help="what `minidl train` left; of cross-validation, all folds")  # fmt: skip
    _add_device(crf)

    evaluate = commands.add_parser("evaluate", help="compare predicted label maps with the truth")
    evaluate.add_argument("predictions", type=Path, help="the folder that `minidl predict` wrote")
    evaluate.add_argument("truths", type=Path, help="a folder with label maps of the same names")
    evaluate.add_argument(
        "--classes", nargs="+", metavar="NAME", help="names of the label values, background first"
    )
    evaluate.add_argument(
        "-o", "--out", type=Path, metavar="CSV", help="default: metrics.csv beside the predictions"
    )
    evaluate.add_argument(
        "--against", type=Path, metavar="FOLDER", help="other predictions of the same cases: a paired test"
    )

    ablate = commands.add_parser(
        "ablate", help="what does each of nnU-Net's choices bring? Train without it, with several seeds",
        description="Train every arm with every seed, in parallel, and compare each with vanilla nnU-Net, "
        "seed by seed. The same command goes on after a stop; finished trainings are kept.",
        argument_default=argparse.SUPPRESS,  # what is not given is left to `job.ablate`
    )  # fmt: skip
    ablate.add_argument("data", type=Path, nargs="*", metavar="FOLDER",
                        help="as for `minidl train`, one or more (default: generated phantoms)")  # fmt: skip
    ablate.add_argument("--arms", nargs="+", metavar="ARM",
                        help="vanilla, batch-norm, no-norm, relu, no-augmentation, ce-only, dice-only, or "
                        "TOML files with a table [NAME] for each arm (default: those seven)")  # fmt: skip
    ablate.add_argument("--seeds", type=count, metavar="N", help="trainings of each arm (default: 5)")
    ablate.add_argument("--dims", type=int, choices=(2, 3), help="as for `minidl train`")
    budget = ablate.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=positive, metavar="M", help="of each training (default: 2)")
    budget.add_argument("--steps", type=count, help="of each training, so that it can be repeated exactly")
    ablate.add_argument("--batch", type=count, help="as for `minidl train`")
    ablate.add_argument("--split", type=split, metavar="A,B,C", help="as for `minidl train`")
    ablate.add_argument("--processes", type=count, metavar="N",
                        help="trainings at a time, which share the cores (default: one a core)")  # fmt: skip
    ablate.add_argument("--out", type=Path, metavar="FOLDER",
                        help="where the results go (default: runs/NAME-ablation)")  # fmt: skip
    _add_device(ablate)

    field = commands.add_parser(
        "receptive-field", help="what each pixel of a network's output sees of the image"
    )
    field.add_argument("model", help='a built-in network ("unet2d"), the folder of a run, or MODULE:CALLABLE')
    field.add_argument("--input", type=sizes, metavar="1x1x256x256", help="samples x channels x image")
    field.add_argument("--position", type=position, metavar="ROW,COLUMN", help="say what this output sees")
    field.add_argument("--plot", type=Path, metavar="PNG", help="draw that position's field on an image")
    _add_device(field)

    summary = commands.add_parser(
        "summary", help="what a network costs: parameters, multiply-adds, and the memory of a training step"
    )
    summary.add_argument(
        "model", help='a built-in network ("unet3d"), the folder of a run, or MODULE:CALLABLE'
    )
    summary.add_argument(
        "options", nargs="*", type=option, metavar="OPTION=VALUE",
        help="of that network: checkpoint=True, features=16,32,64",
    )  # fmt: skip
    summary.add_argument(
        "--input",
        type=sizes,
        required=True,
        metavar="1x1x96x96x96",
        help="samples x channels x image",
    )
    _add_device(summary)

    commands.add_parser("devices", help="the processor, the GPUs, and why CuPy cannot use them, if so")

    data = commands.add_parser("data", help="public datasets, and generated ones as files")
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="the datasets that can be fetched")
    get = actions.add_parser("get", help="fetch a dataset, once, and say where it lies")
    get.add_argument("name", metavar="NAME", help="as `minidl data list` has it")
    made = actions.add_parser("phantom", help="write generated images as a Decathlon folder")
    made.add_argument("out", type=Path, metavar="OUT", help="a folder that does not exist yet")
    made.add_argument("-n", type=count, default=40, metavar="N", help="how many (default: 40)")
    made.add_argument("--dims", type=int, choices=(2, 3), default=2, help="pictures or volumes (default: 2)")
    made.add_argument(
        "--size",
        type=count,
        metavar="SIZE",
        help="pixels along each axis (default: 128, in 3-D 48)",
    )
    made.add_argument(
        "--split", choices=("train", "validation", "test", "shifted"), default="train",
        help="different images; shifted: with more noise and a stronger bias field (default: train)",
    )  # fmt: skip

    lesson = commands.add_parser("lesson", help="open the course, or one lesson of it, in Jupyter")
    lesson.add_argument(
        "number", nargs="?", metavar="NUMBER", help="1 to 18 (default: the map of the course)"
    )
    return top


def _lesson(number: str | None) -> None:
    """Start Jupyter in the folder of lessons that lies beside the package."""
    import subprocess
    from importlib.util import find_spec

    folder = Path(__file__).resolve().parents[1] / "lessons"
    if not (folder / "README.md").is_file():
        raise ValueError(
            "the lessons are not part of the installed package: clone the repository and install it from "
            'there with `python -m pip install -e ".[lessons]"`'
        )
    notebooks = sorted(
        folder.glob(f"{int(number):02}_*.ipynb" if number and number.isdecimal() else "README.md")
    )
    if number and not (number.isdecimal() and notebooks):
        raise ValueError(f"there is no lesson {number}; {folder / 'README.md'} lists them")
    if find_spec("jupyterlab") is None:
        raise ValueError('Jupyter is not installed; `python -m pip install -e ".[lessons]"` brings it')
    settings = f"--LabApp.app_settings_dir={folder / 'jupyterlab'}"  # the map as a page, not as its source
    subprocess.run([sys.executable, "-m", "jupyterlab", settings, str(notebooks[0])], check=False)


def _receptive_field(
    model: str,
    input: tuple[int, ...] | None,
    position: tuple[int, ...] | None,
    plot: Path | None,
    device: str,
) -> None:
    """Print what the positions of a network's output see, layer by layer and in all."""
    import numpy as np

    from minidl.data.phantom import phantom_case
    from minidl.receptive_field import analyze, layer_table
    from minidl.receptive_field.plot import on_image
    from minidl.segment.find_model import find_model

    network = find_model(model).to(device=device).eval()
    if input is None:  # what the first convolution takes, of a usual size
        kernels = [p.shape for p in network.parameters() if p.ndim > 2]
        if not kernels:
            raise ValueError(f"{model} has no convolution that tells the number of axes; give --input")
        rank = len(kernels[0]) - 2
        input = (1, kernels[0][1], *{1: (1024,), 2: (256, 256)}.get(rank, (96, 96, 96)))
    field = analyze(network, input)
    print(layer_table(field.per_layer()), field, sep="\n\n")
    if position is not None:
        seen = (f"{ends[0]} .. {ends[1]}" if ends else "nothing" for ends in field.interval(position))
        print(f"position {','.join(map(str, position))} sees {' x '.join(seen)}")
    if plot is not None:
        drawable = field.rank > 1 and min(input[2:]) >= 16
        image = phantom_case("train", 0, input[2:])[0] if drawable else np.zeros(input[2:])
        on_image(field, image, position, plot)
        print(f"drawn: {plot}")


def _summary(model: str, options: Sequence[tuple[str, object]], input: tuple[int, ...], device: str) -> None:
    """Print what a network costs."""
    from minidl.models import NETWORKS
    from minidl.segment.find_model import find_model
    from minidl.summary import summary

    channels = {"in_channels": input[1]} if model in NETWORKS and len(input) > 2 else {}
    print(summary(find_model(model, **{**channels, **dict(options)}).to(device=device), input))


def _devices() -> None:
    """Print what there is to compute on."""
    from minidl.devices import table

    print(table())


def _data(
    action: str,
    name: str = "",
    out: Path = Path(),
    n: int = 0,
    dims: int = 0,
    size: int | None = None,
    split: str = "train",
) -> None:
    """List, fetch or generate a dataset."""
    from minidl.data import PhantomDataset
    from minidl.data.decathlon import write_decathlon
    from minidl.data.download import SOURCES, cache_folder, download

    if action == "list":
        for source in SOURCES.values():
            lines = (source.about, f"{source.megabytes} MB, {source.licence}; cite {source.cite}", source.url)
            print(source.name, *lines, sep="\n    ")
        print(f"`minidl data get NAME` keeps them in {cache_folder()}; MINIDL_DATA sets another folder.")
        return
    if action == "get":
        if name not in SOURCES:
            raise ValueError(f"there is no dataset {name!r}; there is {', '.join(SOURCES)}")
        folder = download(SOURCES[name])
    else:
        folder = out
        write_decathlon(PhantomDataset(split, n, dims, (size,) * dims if size else None), out)
    print(f"{folder}\nGo on with: minidl train --data {folder}")


def _resume(resume: Path, workers: int = 1, device: str = "cpu", **others: object) -> None:
    if others:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in others)
        raise ValueError(f"--resume goes on with what {resume} began with; leave out {names}")
    from minidl.segment import job

    job.resume(resume, workers, device)


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status: 0, 2 for a mistake in what was asked for, 130 for Ctrl-C."""
    options = vars(parser().parse_args(words))
    command = options.pop("command")
    from minidl.segment import job

    try:
        if command == "lesson":
            _lesson(**options)
        elif command == "receptive-field":
            _receptive_field(**options)
        elif command == "summary":
            _summary(**options)
        elif command == "data":
            _data(**options)
        elif command == "devices":
            _devices()
        elif command == "train" and "resume" in options:
            _resume(**options)
        else:
            getattr(job, command)(**options)
    except (ValueError, TypeError, IndexError, OSError, FloatingPointError) as error:
        print(f"minidl {command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"minidl {command}: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
