"""Whether each of these addresses answers with a 2xx: `python healthy.py URL…`. For the containers' health checks.

The image has no curl. Imports little, since it runs every few seconds in every container.
"""

import sys
from urllib.request import urlopen

SECONDS = 5


def healthy(url: str) -> bool:
    try:
        with urlopen(url, timeout=SECONDS):  # raises for 4xx and 5xx
            return True
    except OSError as error:
        sys.stderr.write(f"{url}: {error}\n")
        return False


if __name__ == "__main__":
    answers = [healthy(url) for url in sys.argv[1:]]  # all of them, so that each that fails is told
    sys.exit(0 if all(answers) else 1)
