"""Lets `python -m nnx_by_example` do what `nbe` does."""

import sys

from nnx_by_example.cli import main

if __name__ == "__main__":
    sys.exit(main())
