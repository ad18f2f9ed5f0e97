"""KV transfer in few pieces, driven by who waits for it.

NIXL joins neighbouring pages of a layer into one piece where they are neighbours on both servers. Every piece
costs: some 15 us on an idle H200.
"""
