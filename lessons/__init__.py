"""The course: scripts in cells, and the notebooks that are made from them."""
