"""The ablation table of nnU-Net's second preprint, as the lecture shows it.

Isensee et al. 2019, "nnU-Net: Breaking the Spell on Successful Medical Image Segmentation", arXiv:1904.08128.
The first row is the mean Dice of vanilla nnU-Net, the others are changes in per cent; the lecture does not
say of what, here they are read as relative to vanilla. There are no seeds and no intervals.
"""

SOURCE = "Isensee et al. 2019, arXiv:1904.08128"

DATA_SETS = (
    "BraTS", "Liver lowres", "Liver fullres", "Hippocampus", "Prostate", "Lung nodule", "Pancreas",
)  # fmt: skip
DICE = (0.72, 0.79, 0.78, 0.89, 0.77, 0.65, 0.65)
CHANGES = {  # by the names of `ARMS`
    "batch-norm": (1.0, -0.1, 2.9, -0.1, -1.3, -14.2, -3.7),
    "no-norm": (1.1, -4.6, -22.8, -0.2, -4.2, 3.0, -100.0),
    "relu": (0.6, 0.0, 1.0, -0.1, -0.2, -0.4, 0.5),
    "no-augmentation": (-0.8, -4.9, 1.5, -1.5, -0.4, 4.2, -11.3),
    "ce-only": (-0.6, -12.0, -6.3, 0.0, -1.4, -25.4, -8.8),
    "dice-only": (0.9, -2.5, -10.1, -0.3, -3.0, -11.5, 1.6),
}
