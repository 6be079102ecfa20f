"""``python -m quipwright``: the command."""

from quipwright.cli.main import main

main()
