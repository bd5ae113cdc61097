"""The pages that are made from the code: `python -m docs` writes them anew."""
