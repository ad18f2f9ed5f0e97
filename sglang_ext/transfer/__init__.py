"""KV transfer in few, long runs of pages, without NIXL's progress thread, and never into pages that are used again.

NIXL sends neighbouring pages of a layer as one descriptor if they are neighbours on both servers. Each
descriptor costs some 15 us on an idle H200.

aborted_rooms       what a prefill server is sending, and what decode servers have aborted
aborts_on_decode    keeps the pages of an aborted request until its prefill server has stopped writing into them
aborts_on_prefill   tells decode when it has stopped
answers_to_decode   the sockets by which it does
page_order          hands out neighbouring pages together
progress_thread     which servers run NIXL's progress thread
transfer_stats      counts the pages and runs that were sent
"""
