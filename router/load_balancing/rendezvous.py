"""Which worker a key belongs to, by rendezvous hashing (Thaler and Ravishankar 1998).

Each worker has a pseudo-random rank for each key, and the first of those that are there gets the key. When a worker
goes, only its own keys move, each to its next; when it comes back, they return. Nothing is kept, and the hash is the
same in every process and on every machine.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b

from router.workers.worker import Worker


def owner(workers: Sequence[Worker], key: bytes) -> Worker:
    """The worker that comes first for a key."""
    return workers[0] if len(workers) == 1 else max(workers, key=_rank(key))


def in_order(workers: Sequence[Worker], key: bytes) -> list[Worker]:
    """All workers in a key's order, the owner first."""
    return sorted(workers, key=_rank(key), reverse=True)


def _rank(key: bytes) -> Callable[[Worker], bytes]:
    begin = blake2b(len(key).to_bytes(8, "little") + key, digest_size=8)

    def rank(worker: Worker) -> bytes:
        hashed = begin.copy()
        hashed.update(worker.url.encode())
        return hashed.digest()

    return rank
