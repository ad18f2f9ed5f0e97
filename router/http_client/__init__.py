"""The HTTP/1.1 client for workers, made for a proxy: pooled connections, streamed bodies."""
