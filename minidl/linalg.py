"""Linear algebra under the names of `torch.linalg`."""

from minidl.ops.matrices import diagonal, matmul
from minidl.ops.reductions import vector_norm

__all__ = ["diagonal", "matmul", "vector_norm"]
