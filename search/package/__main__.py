"""`python -m codesign`: the command line."""

import sys

from codesign.search.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
