"""Attacks on genzoo: bad command lines, damaged files, hostile models, processes that die or fight, and a full disk.

Each of `commands.py`, `corruption.py`, `hostile.py` and `processes.py` is a script, see `python
tests/attacks/corruption.py --help`. They print how many attacks were tried, and how many were refused in one line,
named, without effect, silent, or ended in a traceback; the exit status is the number of the last two.
`tests/test_attacks.py` runs a part of them.
"""
