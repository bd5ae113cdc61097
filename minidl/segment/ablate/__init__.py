"""The ablation study: what does each of nnU-Net's choices bring?

Read `arms.py`, `cells.py`, `statistics.py`, `verdict.py`; `command.py` puts them together.
"""

from minidl.segment.ablate.arms import ARMS, Arm, choose_arms
from minidl.segment.ablate.statistics import Effect, effects, paired_interval

__all__ = ["ARMS", "Arm", "Effect", "choose_arms", "effects", "paired_interval"]
