"""`python -m manifill`: the command line."""

import sys

from manifill.cli import main

sys.exit(main())
