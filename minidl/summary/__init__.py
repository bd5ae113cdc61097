"""What a network costs: `print(summary(model, (1, 1, 96, 96, 96)))`, or `minidl summary` in a terminal."""

from minidl.summary.measure import Layer, Summary, summary

__all__ = ["Layer", "Summary", "summary"]
