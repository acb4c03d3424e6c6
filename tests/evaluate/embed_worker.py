"""Runs skill-embed in forks of itself, so that a test can start it many times without waiting for imports each time.

A JSON object a line on stdin: {"arguments", "env", "output", "seconds"}, the last a pause before each batch, starts one
and answers with its pid; {"wait": pid} answers with its exit code (a signal is negative).
"""

import json
import os
import sys
import time

from skill_fast.evaluate import embed
from skill_fast.models.encoder import Encoder


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            print(os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]), flush=True)
        elif pid := os.fork():
            print(pid, flush=True)
        else:
            _embed(**request)


def _embed(arguments: list[str], env: dict[str, str], output: str, seconds: float) -> None:
    code, forward = 1, Encoder.forward
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(env)

    def slowly(self, images):
        time.sleep(seconds)
        return forward(self, images)

    Encoder.forward = slowly
    try:
        code = embed.main(arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
