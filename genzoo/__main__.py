"""`python -m genzoo`, for launchers such as torchrun."""

import sys

from genzoo.cli import main

sys.exit(main())
