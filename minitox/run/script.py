"""How a script ends: an error in the input is one line, an interrupt another."""

import sys

import torch

from minitox.errors import InputError
from minitox.run import distributed


def run(main) -> None:
    """Run a script's main; exit status 2 after an error that the user can correct, 130 after ^C."""
    start = "\n" if sys.stderr.isatty() else ""  # ends a line of progress
    try:
        with distributed.processes():
            main()
    except (InputError, OSError) as error:
        print(f"{start}error: {error}", file=sys.stderr)
        sys.exit(2)
    except torch.OutOfMemoryError as error:
        reason = str(error).splitlines()[0]
        print(f"{start}error: {reason}; try a smaller --batch-tokens", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{start}interrupted; rerun the same command to resume", file=sys.stderr)
        sys.exit(130)
