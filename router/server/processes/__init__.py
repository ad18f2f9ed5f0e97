"""The processes of one router (`--workers N`): one process, or several that listen on the same port."""
