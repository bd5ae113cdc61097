"""The command line: `minidl train`, `minidl predict`, `minidl evaluate`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be positive, got {text}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def _split(text: str) -> tuple[int, ...]:
    parts = tuple(_count(part) for part in text.split(","))
    if len(parts) != 3:
        raise argparse.ArgumentTypeError(f"expected TRAIN,VALIDATION,TEST, got {text}")
    return parts


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(
        "minidl", description="Image segmentation with a deep-learning engine you can read."
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train", help="train a U-Net on a folder of labelled images, or on generated ones",
        description="Train a U-Net. Without --data it learns generated phantoms, in about two minutes.",
    )  # fmt: skip
    train.add_argument(
        "--data", type=Path, metavar="FOLDER", help="a Decathlon, nnU-Net, images/labels or DSB2018 folder"
    )
    train.add_argument(
        "--dims", type=int, choices=(2, 3), help="a 2-D or 3-D network (default: as the images)"
    )
    budget = train.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=_positive, help="training time (default: 2)")
    budget.add_argument("--steps", type=_count, help="training steps, for a run that can be repeated exactly")
    train.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where the results go (default: a new one in runs/)"
    )
    train.add_argument(
        "--classes", nargs="+", metavar="NAME", help="names of the label values, background first"
    )
    train.add_argument("--split", type=_split, default=(10, 1, 2), metavar="A,B,C",
                       help="training, validation, test: counts, or a ratio (default: 10,1,2)")  # fmt: skip
    train.add_argument("--batch", type=_count, help="patches per step (default: 8 in 2-D, 2 in 3-D)")
    train.add_argument(
        "--learning-rate", type=_positive, default=3e-3, help="Adam's first step size (default: 0.003)"
    )
    train.add_argument("--seed", type=int, default=0, help="the start of all random numbers (default: 0)")

    predict = commands.add_parser("predict", help="segment images with a trained network")
    predict.add_argument("run", type=Path, help="the folder that `minidl train` left")
    predict.add_argument(
        "images", type=Path, nargs="+", help="NIfTI, PNG, TIFF or JPEG files, or folders of them"
    )
    predict.add_argument(
        "-o", "--out", type=Path, required=True, metavar="FOLDER", help="where the label maps go"
    )

    evaluate = commands.add_parser("evaluate", help="compare predicted label maps with the truth")
    evaluate.add_argument("predictions", type=Path, help="the folder that `minidl predict` wrote")
    evaluate.add_argument("truths", type=Path, help="a folder with label maps of the same names")
    evaluate.add_argument(
        "--classes", nargs="+", metavar="NAME", help="names of the label values, background first"
    )
    evaluate.add_argument(
        "-o", "--out", type=Path, metavar="CSV", help="default: metrics.csv beside the predictions"
    )
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status: 0, 2 for a mistake in what was asked for, 130 for Ctrl-C."""
    options = vars(parser().parse_args(arguments))
    command = options.pop("command")
    from minidl.segment import job

    try:
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
