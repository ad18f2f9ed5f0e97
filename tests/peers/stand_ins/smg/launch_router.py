"""`python -m smg.launch_router`, as that of sglang-router."""

import runpy

if __name__ == "__main__":
    runpy.run_module("sglang_router.launch_router", run_name="__main__")
