"""Random traces, most of them nonsense that still has the right types."""

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.router.timeline.traces import HOSTILE, Json

names = st.one_of(
    st.sampled_from(["proposer-1", "proposer-2", "final", "<b>", HOSTILE, "W" * 64, ""]), st.text(max_size=70)
)
texts = st.one_of(st.just(HOSTILE), st.text(max_size=200), st.just('<a href="https://example.org">x</a>'))
maybe_text = st.none() | texts
# Up to 1e9 s: a clock that jumped; tiny ones: a run that was looked at as it began.
times = st.one_of(
    st.floats(0, 40), st.sampled_from([0.0, 1e-9, 0.5, 1.0, 3600.0, 1e9]), st.floats(0, 1e9, allow_subnormal=True)
)
maybe_time = st.none() | times
counts = st.integers(0, 200_000)
scores = st.none() | st.floats(allow_nan=False, allow_infinity=False)
clusters = st.sampled_from(["a", "b", "c", HOSTILE])

speculations = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("segments", "failed", "moves", "speculated", "wasted", "used"), counts),
        "tail": st.none() | counts,
        "mode": st.sampled_from(["open", "fallback", None]),
    },
)
agents: st.SearchStrategy[Json] = st.fixed_dictionaries(
    {"agent": names, "cluster": clusters, "layer": st.integers(0, 5), "model": names},
    optional={
        "reads": st.lists(clusters, max_size=4),
        "state": st.sampled_from(["waiting", "running", "done", "aborted", "skipped", "failed"]),
        "error": maybe_text,
        "attempts": counts,
        **dict.fromkeys(("began", "start", "first_token", "end"), maybe_time),
        "segments": st.lists(st.tuples(times, times, counts).map(list), max_size=5),
        **dict.fromkeys(("prompt_tokens", "completion_tokens", "cached_tokens"), counts),
        "finish_reason": maybe_text,
        "confidence": scores,
        "text": texts,
        "speculation": speculations,
    },
)
decisions: st.SearchStrategy[Json] = st.fixed_dictionaries(
    {"cluster": clusters, "at": times},
    optional={
        "answers": st.lists(names, max_size=4),
        "confidences": st.lists(scores, max_size=4),
        **dict.fromkeys("CPBQu", scores),
        "rule": texts,
        "majority": maybe_text,
        "exit": st.booleans(),
        "problem": maybe_text,
        "seconds": times,
    },
)
runs: st.SearchStrategy[Json] = st.fixed_dictionaries(
    {"run": names, "tree": names, "arm": names, "seconds": times, "agents": st.lists(agents, max_size=9)},
    optional={
        "order": names,
        "created": st.floats(0, 2**36),
        "state": st.sampled_from(["running", "done", "failed", "cancelled"]),
        "error": maybe_text,
        "question": texts,
        "usage": st.fixed_dictionaries(dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), counts)),
        "decisions": st.lists(decisions, max_size=5),
    },
)


def any_run(test: Callable[[Json], None]) -> Callable[[], None]:
    """Run a test on random runs; a machine that is busy is no failure."""
    return settings(deadline=None)(given(runs)(test))
