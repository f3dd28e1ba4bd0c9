"""The command line: arguments and progress only."""
