"""Side-by-side timings with PyTorch on the same threads: `python -m benchmarks NAME`."""
