"""Server processes: started fresh or forked, watched, and stopped without a trace."""
