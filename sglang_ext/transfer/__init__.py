"""KV transfer in few, long runs of pages, without NIXL's progress thread.

NIXL sends neighbouring pages of a layer as one descriptor if they are neighbours on both servers. Each
descriptor costs some 15 us on an idle H200.

page_order        hands out neighbouring pages together
progress_thread   which servers run NIXL's progress thread
transfer_stats    counts the pages and runs that were sent
"""
