"""``python -m understudy.llm.salvage RUN/calls.sqlite``: keep what is readable of a torn store of calls."""

from __future__ import annotations

import sys
from pathlib import Path

from understudy.errors import DataError, UnderstudyError
from understudy.llm.callstore import salvage


def main(arguments: list[str]) -> int:
    """Salvage the named store, say how many answers were kept; returns the exit code."""
    try:
        if len(arguments) != 1 or not Path(arguments[0]).is_file():
            raise DataError(f"{' '.join(arguments) or 'nothing'} is no file.", "Name the calls.sqlite of a run folder.")
        kept, torn = salvage(Path(arguments[0]))
    except UnderstudyError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{kept} answers kept in {arguments[0]}; the damaged file is {torn}. Run the same command again to go on.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
