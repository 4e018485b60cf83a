"""``python -m benchmarks.quality``."""

import sys

from benchmarks.quality.comparison import main

if __name__ == "__main__":
    sys.exit(main())
