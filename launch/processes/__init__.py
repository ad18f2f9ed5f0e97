"""Server processes: started fresh or forked, and stopped so that nothing of them stays."""
