"""Agents of clients, on the real pair: requests that read each other's answers while these still come."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai

from tests.e2e.open_prompts import counters
from tests.e2e.servers import MODEL, TIMEOUT, Servers, generate, is_quiet, post, wait_for

GREEDY = {"temperature": 0, "ignore_eos": True}


def ask(servers: Servers, body: dict[str, Any], path: str = "/generate") -> dict[str, Any]:
    answer = post(f"{servers.router}{path}", {"model": MODEL, **body})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_a_reader_gets_what_it_would_get_of_the_whole_prompt(servers: Servers) -> None:
    """Token by token: the reader comes first, its agents later, in declared order."""
    run = uuid.uuid4().hex
    head = [504, 338, 260] * 200  # longer than any segment that the router may have learnt to wait for

    def agent(name: str, tokens: int) -> dict[str, Any]:
        sampling = {**GREEDY, "max_new_tokens": tokens}
        text = f"The {name} of France is"
        return ask(servers, {"run": run, "agent": name, "text": text, "sampling_params": sampling})

    with ThreadPoolExecutor(3) as pool:
        sampling = {**GREEDY, "max_new_tokens": 8}
        prompt = [*head, "<|answer:capital|>", *head[:9], "<|answer:history|>", 198]
        reader = pool.submit(ask, servers, {"run": run, "input_ids": prompt, "sampling_params": sampling})
        assert wait_for(lambda: counters(servers.prefill)["pinned"] > len(head) // 2), "nothing is prefilled ahead"
        capital, history = pool.map(agent, ("capital", "history"), (12, 40))
    ids = [*head, *capital["output_ids"], *head[:9], *history["output_ids"], 198]
    assert reader.result()["meta_info"]["prompt_tokens"] == len(ids)
    expected = generate(servers.plain, ids, 8, sampling_params={"ignore_eos": True})
    assert reader.result()["output_ids"] == expected["output_ids"]
    trace = httpx.get(f"{servers.router}/runs/{run}", timeout=TIMEOUT).json()
    (read,) = [each for each in trace["agents"] if each["reads"]]
    assert read["speculation"]["used"] > len(head) // 2, "most of it was prefilled while the agents answered"
    assert trace["state"] == "done"
    assert wait_for(lambda: is_quiet(servers.prefill) and is_quiet(servers.decode))


def test_a_plain_openai_client(servers: Servers) -> None:
    """Two agents and a streamed reader, as any framework would send them."""
    client = openai.OpenAI(base_url=f"{servers.router}/v1", api_key="unused")
    run = uuid.uuid4().hex
    said: dict[str, str] = {}

    def agent(name: str, question: str) -> None:
        answer = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": question}],
            max_tokens=16,
            temperature=0,
            extra_body={"run": run, "agent": name, "ignore_eos": True},
        )
        said[name] = answer.choices[0].message.content or ""

    threads = [threading.Thread(target=agent, args=(name, f"Name a {name}.")) for name in ("river", "city")]
    for thread in threads:
        thread.start()
    pieces = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Repeat: <|answer:river|> And: <|answer:city|> Done."}],
        max_tokens=16,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"run": run, "agent": "reader", "order": "completion", "ignore_eos": True},
    )
    *chunks, usage = pieces
    for thread in threads:
        thread.join()
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")
    assert usage.usage is not None
    # The answers are in the prompt: about as many tokens as they have.
    alone = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": f"Repeat: {said['river']} And: {said['city']} Done."}],
        max_tokens=1,
    )
    assert alone.usage is not None
    assert abs(usage.usage.prompt_tokens - alone.usage.prompt_tokens) <= 4
