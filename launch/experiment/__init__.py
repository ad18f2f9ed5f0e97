"""`python -m launch.experiment`: arms of trees on the questions of benchmarks, their latency and their accuracy."""
