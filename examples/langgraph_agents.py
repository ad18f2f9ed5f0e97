"""The same three agents as nodes of a LangGraph graph (`pip install langgraph langchain-openai`).

    python examples/langgraph_agents.py http://localhost:30000 MODEL

In the graph as one would draw it, the reader is a node behind the writers and begins when both are done. Here all
three begin at once: the reader's prompt has places for the answers, and the router lets it wait where it must, with
its prompt prefilled as far as it is known.
"""

import operator
import sys
import uuid
from typing import Annotated, TypedDict

from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph

PROMPTS = {
    "pro": "Give one reason for living in a city.",
    "con": "Give one reason against living in a city.",
    "reader": "For: <|answer:pro|>\n\nAgainst: <|answer:con|>\n\nWeigh both in a sentence.",
}


class Said(TypedDict):
    """What the agents said, by name."""

    answers: Annotated[dict[str, str], operator.or_]


def main(url: str, model: str) -> None:
    """Run the graph, and print the reader's answer."""
    run = uuid.uuid4().hex

    def node(name: str) -> object:
        # max_retries: a name is given once in a run, so a request of an agent is not sent again.
        llm = ChatOpenAI(
            base_url=f"{url}/v1",
            api_key="unused",
            model=model,
            max_retries=0,
            extra_body={"run": run, "agent": name, "max_tokens": 60},
        )
        return lambda _: {"answers": {name: llm.invoke(PROMPTS[name]).content}}

    graph = StateGraph(Said)
    for name in PROMPTS:
        graph.add_node(name, node(name))
        graph.add_edge(START, name)
        graph.add_edge(name, END)
    print(graph.compile().invoke({"answers": {}})["answers"]["reader"])
    print(f"\nwhat each of them did, and when: {url}/runs/{run}/timeline")


if __name__ == "__main__":
    main(*sys.argv[1:3])
