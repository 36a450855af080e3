"""As a script, `genzoo ARGS` in a fork of the warm interpreter at the address GENZOO_WARM: for launchers, which start
Python files and would import torch in each process.

Signals are passed on to the fork, and its exit status is this process's.
"""

import os
import signal
import sys

from warm import requested

if __name__ == "__main__":
    command = requested(
        os.environ["GENZOO_WARM"], sys.argv[1:], os.getcwd(), os.environ, sys.stdout.buffer, sys.stderr.buffer
    )
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: command.send_signal(number))
    status = command.wait()
    sys.exit(status if status >= 0 else 128 - status)
