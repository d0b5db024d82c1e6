"""`python -m simct`: the command."""

import sys

from simct.cli.main import main

sys.exit(main())
