"""Made-up traces: only data, no agent ever ran."""

from typing import Any

Json = dict[str, Any]
QUESTION = "Made-up sample: how many prime numbers are there below one hundred, and how do you know?"


def agent(name: str, cluster: str, layer: int, **more: Any) -> Json:
    """An agent that was never begun; `more` replaces any key."""
    empty: Json = {
        "agent": name,
        "cluster": cluster,
        "layer": layer,
        "model": "smollm2-a",
        "reads": [],
        "state": "waiting",
        "error": None,
        "attempts": 0,
        "began": None,
        "start": None,
        "first_token": None,
        "end": None,
        "segments": [],
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "cached_tokens": 0,
        "finish_reason": None,
        "confidence": None,
        "text": "",
        "speculation": {},
    }
    return {**empty, **more}


def ran(name: str, cluster: str, layer: int, times: tuple[float, float, float, float], **more: Any) -> Json:
    """An agent that is done; `times` are when it began, was sent, had its first token and ended."""
    began, start, first, end = times
    tokens = round((end - first) * 15)
    done: Json = {
        "state": "done",
        "attempts": 1,
        "began": began,
        "start": start,
        "first_token": first,
        "end": end,
        "prompt_tokens": 80,
        "completion_tokens": tokens,
        "finish_reason": "stop",
        "confidence": 0.84,
        "text": f"Answer of {name}. There are 25 of them: sieve the numbers up to 100 by 2, 3, 5 and 7.",
    }
    return agent(name, cluster, layer, **{**done, **more})


def spliced(name: str, cluster: str, times: tuple[float, float, float, float], ahead: list[list[float]]) -> Json:
    """A reader of layer 1 or 2 whose prompt was prefilled in segments (from, to, tokens)."""
    reads = ["aggregators"] if name == "final" else [f"proposers-{name[-1]}"]
    tokens = sum(int(segment[2]) for segment in ahead)
    told = {
        "segments": len(ahead),
        "failed": 0,
        "moves": 0,
        "speculated": tokens,
        "wasted": 12,
        "used": tokens - 12,
        "tail": 41,
        "mode": "open",
    }
    more = {"segments": ahead, "speculation": told, "prompt_tokens": tokens + 29, "cached_tokens": tokens - 12}
    return ran(name, cluster, 2 if name == "final" else 1, times, reads=reads, **more)


def run(agents: list[Json], seconds: float, **more: Any) -> Json:
    """A run over these agents; its usage is theirs."""
    usage = {key: sum(agent[key] for agent in agents) for key in ("prompt_tokens", "completion_tokens")}
    whole: Json = {
        "run": "run-5a3bd1e07c2f4e64",
        "tree": "moa",
        "arm": "splice",
        "order": "completion",
        "created": 1_790_000_000.25,
        "state": "done",
        "error": None,
        "seconds": seconds,
        "question": QUESTION,
        "usage": {**usage, "total_tokens": sum(usage.values())},
        "agents": agents,
        "decisions": [],
    }
    return {**whole, **more}


def decision(cluster: str, at: float, answers: list[str], *, quality: float, draw: float, exits: bool) -> Json:
    """One decision of the Q-metric's draw."""
    return {
        "cluster": cluster,
        "at": at,
        "answers": answers,
        "confidences": [0.84 - 0.03 * place for place in range(len(answers))],
        "C": 0.82,
        "P": 0.91,
        "B": 0.7,
        "Q": quality,
        "u": draw,
        "rule": "q_draw",
        "majority": "25" if exits else None,
        "exit": exits,
        "problem": None,
        "seconds": 0.004,
    }


ENDS = ((7.9, 9.6, 11.2), (8.8, 10.1, 12.9), (6.4, 9.9, 10.8))


def proposers() -> list[Json]:
    """Three clusters of three, as in the default tree."""
    return [
        ran(f"proposer-{c}{i}", f"proposers-{c}", 0, (0.01, 0.03 * i + 0.05, 0.4 + 0.12 * i, ENDS[c - 1][i - 1]))
        for c in (1, 2, 3)
        for i in (1, 2, 3)
    ]


def finished() -> Json:
    """Thirteen agents, spliced, all done."""
    aggregators = [
        spliced(f"aggregator-{c}", "aggregators", (0.02, end + 0.05, end + 0.24, end + length), ahead)
        for c, end, length, ahead in (
            (1, 11.2, 7.1, [[0.2, 0.5, 90], [7.95, 8.4, 130], [9.65, 9.9, 80], [10.2, 10.4, 60], [10.9, 11.1, 40]]),
            (2, 12.9, 6.2, [[0.5, 0.8, 90], [8.85, 9.3, 140], [10.15, 10.5, 120], [11.2, 11.4, 60], [12.3, 12.6, 70]]),
            (3, 10.8, 8.6, [[0.8, 1.1, 90], [6.45, 6.8, 110], [9.95, 10.2, 90], [10.45, 10.6, 40]]),
        )
    ]
    ahead: list[list[float]] = [[1.1, 1.4, 96], [18.35, 18.8, 140], [19.15, 19.4, 100]]
    return run([*proposers(), *aggregators, spliced("final", "final", (0.02, 19.45, 19.7, 31.4), ahead)], 31.42)


def early_exit() -> Json:
    """The same tree with early exit: one cluster goes on, two agents are aborted, one is never sent."""
    agents = proposers()
    cut = {
        "state": "aborted",
        "finish_reason": "abort",
        "confidence": None,
        "text": "There are",
        "completion_tokens": 90,
    }
    agents[5].update(cut, end=10.14, first_token=None, completion_tokens=0, text="")
    agents[8] = agent("proposer-33", "proposers-3", 0, state="skipped")
    aggregators = [
        spliced(f"aggregator-{c}", "aggregators", (0.02, sent, sent + 0.3, end), ahead)
        for c, sent, end, ahead in (
            (1, 11.25, 17.4, [[0.2, 0.5, 90], [7.95, 8.4, 130], [9.65, 9.9, 80], [10.9, 11.2, 90]]),
            (2, 10.2, 17.9, [[0.5, 0.8, 90], [8.85, 9.3, 140]]),
            (3, 9.98, 15.1, [[0.8, 1.1, 90], [6.45, 6.8, 110]]),
        )
    ]
    aggregators[1].update(cut, end=17.43)
    last = spliced("final", "final", (0.02, 17.5, 17.75, 28.8), [[1.1, 1.4, 96], [15.15, 15.55, 120]])
    decisions = [
        decision("proposers-3", 9.92, ["proposer-31", "proposer-32"], quality=0.93, draw=0.41, exits=True),
        decision("proposers-1", 9.62, ["proposer-11", "proposer-12"], quality=0.38, draw=0.71, exits=False),
        decision("proposers-2", 10.12, ["proposer-21", "proposer-22"], quality=0.81, draw=0.55, exits=True),
        decision("aggregators", 17.41, ["aggregator-3", "aggregator-1"], quality=0.9, draw=0.02, exits=True),
    ]
    return run([*agents, *aggregators, last], 28.83, arm="exit", decisions=decisions)


def running() -> Json:
    """Looked at while it runs: open phases, agents that wait, no final answer."""
    agents = finished()["agents"]
    for one in agents:
        if one["end"] > 9.7:
            one.update(state="running", end=None, finish_reason=None, confidence=None, text="There are")
            one["completion_tokens"] = 96
        if one["start"] > 9.7:
            one.update(start=None, first_token=None, text="", completion_tokens=0, prompt_tokens=0, cached_tokens=0)
        one["segments"] = [segment for segment in one["segments"] if segment[1] < 9.7]
    agents[-1] = agent("final", "final", 2, reads=["aggregators"])
    return run(agents, 9.7, state="running")


def failed() -> Json:
    """A worker died under one aggregator; what came after it was never sent."""
    agents = finished()["agents"]
    why = "agent aggregator-2 failed with 502: the worker closed the connection before the answer was whole."
    for cut in (9, 11):
        agents[cut].update(state="aborted", end=15.21, completion_tokens=60, finish_reason="abort", text="There are")
    agents[10].update(state="failed", error=why, end=15.2, attempts=3, finish_reason=None, completion_tokens=30)
    agents[12] = agent("final", "final", 2, reads=["aggregators"], state="failed", error=why, end=15.21)
    return run(agents, 15.22, state="failed", error=why)


HOSTILE = "</script><img src=x onerror=alert(1)><script>alert(2)</script>{{ 7*7 }}<!-- & \"'` ]]> \u202e\u0000\ud800"


def wordy() -> Json:
    """Names as long as they may be, answers of ten thousand words, and HTML in every text."""
    whole = early_exit()
    for one in whole["agents"]:
        one["text"] = f"{HOSTILE}\n\n" + "Das ist eine sehr lange Antwort, 日本語も少し。 " * 1500 + "x" * 3000
    names = {
        one["agent"]: f"{one['agent']}-" + "WideNameThatGoesOnAndOn"[: 10 + place] * 3
        for place, one in enumerate(whole["agents"])
    }
    for one in whole["agents"]:
        one["agent"] = names[one["agent"]][:64]
        one["model"] = "organisation/" + "a-very-long-model-name-" * 4
    whole["agents"][0].update(error=HOSTILE, finish_reason=HOSTILE)
    whole["decisions"][1].update(problem=HOSTILE, majority=HOSTILE * 3)
    return {**whole, "question": (HOSTILE + " and again? ") * 40, "error": HOSTILE, "run": HOSTILE, "tree": HOSTILE}
