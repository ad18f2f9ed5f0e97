"""What the machine has: GPUs, CPU cores, host memory and free ports."""
