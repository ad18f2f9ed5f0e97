"""Three agents of a plain OpenAI client: the last reads the other two while they still write.

    python examples/placeholders.py http://localhost:30000 MODEL

Nothing but `run`, `agent` and `<|answer:NAME|>` is new to a client; any framework that lets you add fields to a
request's body can do the same.
"""

import asyncio
import sys
import uuid

import openai


async def main(url: str, model: str) -> None:
    """Ask, and print the reader's answer as it comes."""
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused")
    run = uuid.uuid4().hex

    async def agent(name: str, question: str) -> None:
        await client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": question}],
            max_tokens=60,
            extra_body={"run": run, "agent": name},
        )

    writers = asyncio.gather(
        agent("pro", "Give one reason for living in a city."),
        agent("con", "Give one reason against living in a city."),
    )
    reader = await client.chat.completions.create(
        model=model,
        messages=[
            {"role": "user", "content": "For: <|answer:pro|>\n\nAgainst: <|answer:con|>\n\nWeigh both in a sentence."}
        ],
        max_tokens=60,
        stream=True,
        extra_body={"run": run, "order": "completion"},
    )
    async for piece in reader:
        print(piece.choices[0].delta.content or "", end="", flush=True)
    await writers
    print(f"\n\nwhat each of them did, and when: {url}/runs/{run}/timeline")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
