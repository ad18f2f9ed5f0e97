"""The Triton kernels and how they are chosen and launched; imported only where they run."""
