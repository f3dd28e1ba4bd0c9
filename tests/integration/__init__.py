"""Whole runs: from the words of a plan to a folder of results, in process, by command, in a browser."""
