"""The floor: a plain aiohttp loop. No retries, no cache, no checks; a call that fails is a row lost."""

import asyncio

import aiohttp

from benchmarks.peers.peer_job import MAX_TOKENS, Job, measure, prompt_of


async def ask_all(job: Job) -> dict[int, str]:
    """Ask for every row, some at a time."""
    slots = asyncio.Semaphore(job.in_flight)
    connector = aiohttp.TCPConnector(limit=job.in_flight)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask(number: int) -> str | None:
            body = {
                "model": job.model,
                "messages": [
                    {"role": "system", "content": job.system},
                    {"role": "user", "content": prompt_of(number)},
                ],
                "max_tokens": MAX_TOKENS,
            }
            async with slots, session.post(f"{job.base_url}/chat/completions", json=body) as response:
                reply = await response.json()
                return reply["choices"][0]["message"]["content"] if response.status == 200 else None

        answers = await asyncio.gather(*map(ask, job.ids))
    return {number: answer for number, answer in zip(job.ids, answers, strict=True) if answer is not None}


if __name__ == "__main__":
    measure(lambda job: asyncio.run(ask_all(job)))
