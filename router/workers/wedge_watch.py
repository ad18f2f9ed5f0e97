"""Finds workers that take requests and say nothing, and takes their requests away from them.

Silence alone proves nothing: a long prompt is prefilled without a word, and a request that is not streamed is answered
at its end. So a worker that has requests and sent no byte of any response for a while is asked whether it still works.
SGLang's `/health_generate` tells that, of a busy server too, since it waits for any sign of the engine. Of other
servers only the HTTP process can be asked.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from router.config.flags import flag
from router.errors import ConnectFailed, RouterError
from router.workers.registry import Registry
from router.workers.worker import Worker

logger = logging.getLogger(__name__)

ANSWER_SECS = 25.0  # for the answer; SGLang itself gives up after 20 s, with 503
AT_ONCE_SECS = 0.5  # a 5xx that comes sooner says nothing of the engine: a server that starts or stops asks it nothing
ASK_AGAIN_SECS = 5.0  # between questions to a worker that did not work
BAD_ANSWERS = 2  # in a row, until it counts as wedged: a decode server that waits for long prompts may give one


@dataclass(frozen=True)
class WedgeSettings:
    """For how long a worker may say nothing."""

    silent_secs: float = flag(
        "--worker-wedge-secs",
        default=30,
        value_type=float,
        minimum=0,
        help_text="seconds for which a worker with requests may say nothing; then it is asked whether it works, and if "
        "not, its requests go elsewhere; 0 never asks",
    )


class WedgeWatch:
    """Finds out which workers are wedged, and tells their `health`.

    Args:
        registry: The workers.
        settings: For how long they may say nothing.
    """

    def __init__(self, registry: Registry, settings: WedgeSettings) -> None:
        self._registry = registry
        self._silent_secs = settings.silent_secs
        self._silent_since: WeakKeyDictionary[Worker, float] = WeakKeyDictionary()
        self._bad_answers: WeakKeyDictionary[Worker, int] = WeakKeyDictionary()
        self._questions: dict[Worker, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Look at all workers again and again, until cancelled."""
        try:
            while self._silent_secs:
                self._look()
                await asyncio.sleep(min(1.0, self._silent_secs / 4))
        finally:
            for task in self._questions.values():
                task.cancel()
            await asyncio.gather(*self._questions.values(), return_exceptions=True)

    def _look(self) -> None:
        now = time.monotonic()
        for worker in self._registry.workers:
            heard = worker.load.forget_heard()
            if worker.health.wedged is None and (heard or not worker.load.requests):
                self._silent_since.pop(worker, None)
                self._bad_answers.pop(worker, None)
                if worker in self._questions:
                    self._questions[worker].cancel()
                continue
            since = self._silent_since.setdefault(worker, now)
            due = since + (ASK_AGAIN_SECS if worker in self._bad_answers else self._silent_secs)
            if now >= due and worker not in self._questions and not worker.health.settings.disable_checks:
                task = self._questions[worker] = asyncio.create_task(self._question(worker, now - since))
                task.add_done_callback(lambda _, worker=worker: self._questions.pop(worker, None))  # type: ignore[misc]

    async def _question(self, worker: Worker, silent: float) -> None:
        """Ask a worker that said nothing for so many seconds whether it works, and act on it."""
        works = await _works(worker)
        self._silent_since[worker] = time.monotonic()
        if works:
            self._bad_answers.pop(worker, None)
            if worker.health.wedged is not None:
                worker.health.works_again()
                logger.info("%s works again", worker.url)
            return
        if worker.load.heard or (worker.health.wedged is None and not worker.load.requests):
            return  # it spoke meanwhile, or has nothing to say any more
        self._bad_answers[worker] = self._bad_answers.get(worker, 0) + 1
        if worker.health.wedged is None and self._bad_answers[worker] >= BAD_ANSWERS:
            problem = f"{worker.url} took requests, said nothing for {silent:.0f} s and does not work."
            worker.health.does_not_work(problem)
            logger.warning("%s Its %d requests are sent elsewhere.", problem, worker.load.requests)
            worker.origin.give_up("stopped working")


async def _works(worker: Worker) -> bool:
    """Whether a worker answers that it works; what it refuses or has not, it answers too."""
    path = "/v1/models" if worker.capability == "openai" else "/health_generate"
    asked_at = time.monotonic()
    try:
        async with asyncio.timeout(ANSWER_SECS), await worker.origin.request("GET", path) as response:
            await response.read()
    except TimeoutError:
        return False
    except ConnectFailed as error:
        return not error.silent  # a refusal says that its process ends; its requests may still be answered
    except RouterError:
        return True
    return response.status < 500 or time.monotonic() < asked_at + AT_ONCE_SECS
