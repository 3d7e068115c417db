"""`python -m sampan` is the command `sampan`."""

from sampan.cli.main import entry

entry()
