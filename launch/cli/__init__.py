"""The command `python -m launch.pd`: its options, the plan they ask for, and one launch from start to stop."""
