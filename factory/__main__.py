"""`factory`, and `python -m factory`: the command line, which takes a moment to import, and Ctrl-C in that moment."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from factory.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
