"""Scripts that draw the figures: `python -m figures` redraws all, `python -m figures NAME` one."""
