"""A LangGraph graph with its edges, whose reader is prefilled while the writers write.

    pip install ./client langgraph langchain-openai
    python examples/langgraph_agents.py http://localhost:30000 MODEL

A writer's node leaves the placeholder for its answer in the state and ends at once, so that the reader begins.
"""

import asyncio
import operator
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypedDict

from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from moa_client import AgentRun


class Said(TypedDict):
    """What the agents said, by name: placeholders at first."""

    answers: Annotated[dict[str, str], operator.or_]


async def main(url: str, model: str) -> None:
    """Run the graph, and print the reader's answer."""
    async with AgentRun() as run:

        def node(name: str, prompt: str) -> Callable[[Said], Awaitable[dict[str, Any]]]:
            async def ask(fields: dict[str, str], filled: str) -> str:
                llm = ChatOpenAI(
                    base_url=f"{url}/v1", api_key="unused", model=model, max_retries=0, max_tokens=60, extra_body=fields
                )
                return str((await llm.ainvoke([("system", name), ("user", filled)])).content)

            async def begin(said: Said) -> dict[str, Any]:
                filled = prompt.format(**said["answers"])
                return {"answers": {name: run.begin(name, lambda fields: ask(fields, filled))}}

            return begin

        graph = StateGraph(Said)
        graph.add_node("pro", node("pro", "Give one reason for living in a city."))
        graph.add_node("con", node("con", "Give one reason against living in a city."))
        graph.add_node("reader", node("reader", "For: {pro}\n\nAgainst: {con}\n\nWeigh both in a sentence."))
        graph.add_edge(START, "pro")
        graph.add_edge(START, "con")
        graph.add_edge(["pro", "con"], "reader")
        graph.add_edge("reader", END)
        await graph.compile().ainvoke({"answers": {}})
        print(await run.answer("reader"))
    print(f"\nwhat each of them did, and when: {url}/runs/{run.id}/timeline")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
