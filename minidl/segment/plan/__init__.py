"""Planning: look at a dataset, decide everything about the training by nnU-Net's rules, and say why."""

from minidl.segment.plan.fingerprint import Fingerprint, take_fingerprint
from minidl.segment.plan.plan import Configuration, Normalization, Plan, Reason

__all__ = ["Configuration", "Fingerprint", "Normalization", "Plan", "Reason", "take_fingerprint"]
