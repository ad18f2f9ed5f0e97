"""Three AutoGen assistants, of which one reads the others while they still write.

pip install ./client autogen-agentchat 'autogen-ext[openai]'
python examples/autogen_agents.py http://localhost:30000 MODEL
"""

import asyncio
import sys

from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import ModelFamily, ModelInfo
from autogen_ext.models.openai import OpenAIChatCompletionClient
from moa_client import AgentRun

TEXT_ALONE = ModelInfo(
    vision=False, function_calling=False, json_output=False, structured_output=False, family=ModelFamily.UNKNOWN
)


async def main(url: str, model: str) -> None:
    """Run the assistants, and print the reader's answer."""
    async with AgentRun() as run:

        def begin(name: str, prompt: str) -> str:
            async def ask(fields: dict[str, str]) -> str:
                client = OpenAIChatCompletionClient(
                    model=model,
                    base_url=f"{url}/v1",
                    api_key="unused",
                    model_info=TEXT_ALONE,
                    max_retries=0,
                    max_tokens=60,
                    extra_body=fields,
                )
                try:
                    assistant = AssistantAgent(name, client, system_message=name)
                    return str((await assistant.run(task=prompt)).messages[-1].to_text())
                finally:
                    await client.close()

            return run.begin(name, ask)

        pro = begin("pro", "Give one reason for living in a city.")
        con = begin("con", "Give one reason against living in a city.")
        begin("reader", f"For: {pro}\n\nAgainst: {con}\n\nWeigh both in a sentence.")
        print(await run.answer("reader"))
    print(f"\nwhat each of them did, and when: {url}/runs/{run.id}/timeline")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
