"""KV transfer in few pieces.

NIXL joins neighbouring pages of a layer into one piece where they are neighbours on both servers. Every piece
costs: some 15 us on an idle H200, 0.3 ms beside a decode server on the same GPU.
"""
