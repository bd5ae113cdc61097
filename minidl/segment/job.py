"""The jobs behind the commands `minidl plan`, `train`, `predict`, `crf`, `evaluate` and `ablate`."""

from minidl.segment.ablate.command import ablate
from minidl.segment.evaluate import evaluate
from minidl.segment.fit_crf import crf
from minidl.segment.plan.command import plan
from minidl.segment.predict import predict
from minidl.segment.run import resume, train
from minidl.segment.trained import load_run

__all__ = ["ablate", "crf", "evaluate", "load_run", "plan", "predict", "resume", "train"]
