"""Plans a launch before anything is started: which server on which GPU, with how much memory, and its command line."""
