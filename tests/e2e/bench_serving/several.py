"""Runs SGLang's load generator once for each list of arguments in a JSON list: importing it takes ten seconds."""

import json
import runpy
import sys

if __name__ == "__main__":
    for arguments in json.loads(sys.argv[1]):
        sys.argv = ["bench_serving", *arguments]
        runpy.run_module("sglang.bench_serving", run_name="__main__")
