"""``python -m studio`` is the command line."""

from studio.cli.main import main

main()
