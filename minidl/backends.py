"""How the GPU may compute, by PyTorch's names: `minidl.backends.cuda.matmul.allow_tf32 = True`.

TF32 are float32 numbers of which a tensor core reads 10 of the 23 bits after the binary point: products of
them are several times as fast, and right to 3 digits. Here it is about convolutions, which on a GPU are
products of matrices (`minidl/kernels/cuda_conv.py`). PyTorch's own convolutions obey
`torch.backends.cudnn.allow_tf32`, which is on unless it is switched off.
"""

from __future__ import annotations

from minidl.kernels import cuda_conv


class _Matmul:
    @property
    def allow_tf32(self) -> bool:
        """Whether products of float32 numbers may round them to TF32; float16 does not ask."""
        return cuda_conv.allow_tf32

    @allow_tf32.setter
    def allow_tf32(self, value: bool) -> None:
        cuda_conv.allow_tf32 = bool(value)


class _Cuda:
    matmul = _Matmul()


cuda = _Cuda()
