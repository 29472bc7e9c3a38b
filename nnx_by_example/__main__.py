"""Begins the command, as `nbe` and as `python -m nnx_by_example`."""

import sys


def main() -> int:
    """Run the command; Ctrl-C ends it without a traceback from the start."""
    try:
        from nnx_by_example import cli

        return cli.main()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
