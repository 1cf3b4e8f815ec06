"""`python -m probtune`."""

import sys

from .cli import main

sys.exit(main())
