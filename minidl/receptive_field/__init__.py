"""What does this pixel see? Receptive fields of any model that runs.

The graph that autodiff records says how every op moves positions, so the field of an output is found by
walking it: through strides, dilations and paddings, transposed convolutions, interpolation, branches and
skips, crops, reshapes and attention, in 1, 2 and 3 dimensions, at the borders too.

    field = analyze(model, (1, 1, 572, 572))          which samples each position of the output can see
    field.size, field.stride, field.halo               the numbers, per axis; print(field) tells them all
    field.interval((20, 30)), field.region((20, 30))   of one position
    field.per_layer()                                  of every layer on the way
    chain([conv(3), pool(2), conv(3)])                 the same without a model
    depth_for(100, [conv(3), pool(2)])                 and backwards: what reaches a wanted field
    reachability, gradient, effective                  measured: can it, does it, how much does it matter

Tiles. A network that only looks at neighbours can be run on tiles: with `halo` samples around each, cut at
multiples of `alignment`, the tiles' outputs are those of the whole image. An instance norm breaks this,
however large the halo: each tile subtracts its own mean and divides by its own standard deviation, which are
not those of the image. That is why `whole` names such layers beside the local field, and why sliding-window
inference must blend (or a network be trained on patches of that same size).
"""

from minidl.receptive_field.analysis import analyze
from minidl.receptive_field.chain import (
    ChainLayer,
    add,
    chain,
    conv,
    conv_transpose,
    crop,
    depth_for,
    dilations_for,
    pool,
    upsample,
)
from minidl.receptive_field.effective import EffectiveField, effective
from minidl.receptive_field.field import Layer, ReceptiveField
from minidl.receptive_field.measured import gradient, reachability
from minidl.receptive_field.reach import Reach
from minidl.receptive_field.report import layer_table

__all__ = [
    "ChainLayer", "EffectiveField", "Layer", "Reach", "ReceptiveField", "add", "analyze", "chain", "conv",
    "conv_transpose", "crop", "depth_for", "dilations_for", "effective", "gradient", "layer_table", "pool",
    "reachability", "upsample",
]  # fmt: skip
