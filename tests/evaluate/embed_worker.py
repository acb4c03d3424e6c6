"""skill-embed with slow batches, so that a test can end it between two parts. Arguments: seconds, skill-embed's."""

import sys
import time

from skill_fast.evaluate import embed
from skill_fast.models.encoder import Encoder


def main() -> int:
    seconds, forward = float(sys.argv[1]), Encoder.forward

    def slowly(self, images):
        time.sleep(seconds)
        return forward(self, images)

    Encoder.forward = slowly
    return embed.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
