"""Three agents of the OpenAI Agents SDK, of which one reads the others while they still write.

pip install ./client openai-agents
python examples/openai_agents.py http://localhost:30000 MODEL
"""

import asyncio
import sys

from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from moa_client import AgentRun
from openai import AsyncOpenAI


async def main(url: str, model: str) -> None:
    """Run the agents, and print the reader's answer."""
    set_tracing_disabled(disabled=True)  # it would send traces to OpenAI
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)
    async with AgentRun() as run:

        def begin(name: str, prompt: str) -> str:
            async def ask(fields: dict[str, str]) -> str:
                agent = Agent(
                    name=name,
                    instructions=name,
                    model=OpenAIChatCompletionsModel(model, client),
                    model_settings=ModelSettings(max_tokens=60, extra_body=fields),
                )
                return str((await Runner.run(agent, prompt, max_turns=1)).final_output)

            return run.begin(name, ask)

        pro = begin("pro", "Give one reason for living in a city.")
        con = begin("con", "Give one reason against living in a city.")
        begin("reader", f"For: {pro}\n\nAgainst: {con}\n\nWeigh both in a sentence.")
        print(await run.answer("reader"))
    await client.close()
    print(f"\nwhat each of them did, and when: {url}/runs/{run.id}/timeline")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
