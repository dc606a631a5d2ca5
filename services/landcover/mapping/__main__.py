"""`python -m landcover.mapping JOB`: do one map job."""

from __future__ import annotations

import argparse
import sys

from landcover.correlation import working_for
from landcover.errors import LandcoverError
from landcover.logs import configure_logging
from landcover.mapping.job import run_job
from landcover.redaction import redact


def main() -> int:
    """Run from the command line, by an API process."""
    parser = argparse.ArgumentParser(prog="python -m landcover.mapping", description="Do one map job.")
    parser.add_argument("job")
    parser.add_argument("--keep-s", type=int, default=24 * 3600, help="how long its record is kept")
    arguments = parser.parse_args()
    try:
        configure_logging()
        with working_for(f"job:{arguments.job}"):
            return run_job(arguments.job, keep_s=arguments.keep_s)
    except LandcoverError as error:
        print(f"landcover: {redact(str(error))}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
