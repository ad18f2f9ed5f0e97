"""Runs the command of lm-evaluation-harness once for each list of arguments in a JSON list: importing it takes long.

It knows only the tasks of the folders given with `--include_path`: to find its own it would read 26,000 files a run.
"""

import json
import sys
from functools import partialmethod

from lm_eval.__main__ import cli_evaluate
from lm_eval.tasks import TaskManager

if __name__ == "__main__":
    TaskManager.__init__ = partialmethod(TaskManager.__init__, include_defaults=False)
    for arguments in json.loads(sys.argv[1]):
        sys.argv = ["lm_eval", *arguments]
        cli_evaluate()
