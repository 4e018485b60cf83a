"""``python -m serving.service`` runs the recommendation service; ``... keys`` manages its keys."""

import sys

from serving.service.main import main

if __name__ == "__main__":
    sys.exit(main())
