"""What most people write first: the official client in a loop. It retries twice by itself; no cache, no checks."""

import asyncio

from benchmarks.peers.peer_job import MAX_TOKENS, Job, measure, prompt_of


async def ask_all(job: Job) -> dict[int, str]:
    """Ask for every row, some at a time."""
    from openai import APIError, AsyncOpenAI

    slots = asyncio.Semaphore(job.in_flight)
    async with AsyncOpenAI(base_url=job.base_url, api_key="none") as client:

        async def ask(number: int) -> str | None:
            try:
                async with slots:
                    reply = await client.chat.completions.create(
                        model=job.model,
                        messages=[
                            {"role": "system", "content": job.system},
                            {"role": "user", "content": prompt_of(number)},
                        ],
                        max_tokens=MAX_TOKENS,
                    )
            except APIError:
                return None
            return reply.choices[0].message.content

        answers = await asyncio.gather(*map(ask, job.ids))
    return {number: answer for number, answer in zip(job.ids, answers, strict=True) if answer is not None}


def main() -> None:
    """Import what is not to be timed, then measure."""
    import openai

    openai.AsyncOpenAI  # noqa: B018  the package imports its parts when they are first named
    measure(lambda job: asyncio.run(ask_all(job)))


if __name__ == "__main__":
    main()
