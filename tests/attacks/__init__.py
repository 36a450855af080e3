"""Attacks on genzoo: bad command lines, damaged files, and processes that die, fight or run out of disk.

Each module is a script, run from the folder of the tests: `python -m attacks.commands`, `python -m attacks.corruption
--seeds 200`, `python -m attacks.processes`. They print how many attacks were tried, and how many were refused in one
line, survived with a warning, silent, or ended in a traceback; the exit status is the number of the last two.
`tests/test_attacks.py` runs a part of the first two.
"""
