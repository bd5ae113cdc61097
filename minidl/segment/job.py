"""The jobs behind the commands `minidl plan`, `minidl train`, `minidl predict` and `minidl evaluate`."""

from minidl.segment.evaluate import evaluate
from minidl.segment.plan.command import plan
from minidl.segment.predict import predict
from minidl.segment.run import load_run, resume, train

__all__ = ["evaluate", "load_run", "plan", "predict", "resume", "train"]
