"""`python -m smg.launch_router`, as that of sglang-router."""

from sglang_router.launch_router import main

if __name__ == "__main__":
    main()
