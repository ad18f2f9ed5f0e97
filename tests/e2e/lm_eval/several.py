"""Runs the command of lm-evaluation-harness once for each list of arguments in a JSON list: importing it takes long."""

import json
import sys

from lm_eval.__main__ import cli_evaluate

if __name__ == "__main__":
    for arguments in json.loads(sys.argv[1]):
        sys.argv = ["lm_eval", *arguments]
        cli_evaluate()
