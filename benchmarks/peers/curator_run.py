"""Bespoke Curator: its own cache, no rate limit that would slow it, rows that fail left out instead of fatal."""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers.peer_job import MAX_TOKENS, Job, measure, prompt_of


def main() -> None:
    """Import what is not to be timed, then measure."""
    _stay_offline()
    job_folder = Job.from_command_line().folder
    os.environ["CURATOR_CACHE_DIR"] = str(job_folder / "curator")  # read at import
    from bespokelabs import curator
    from pydantic import BaseModel, create_model

    class Writer(curator.LLM):
        """Asks as every contender does."""

        def prompt(self, row: dict[str, Any]) -> str:
            return prompt_of(row["id"])

        def parse(self, row: dict[str, Any], response: str | BaseModel) -> dict[str, Any]:
            text = response if isinstance(response, str) else response.model_dump_json()
            return {"id": row["id"], "text": text}

    def play(job: Job) -> Mapping[int, str]:
        fields: dict[str, Any] = {name: (str, ...) for name in job.fields.split(",")}
        writer = Writer(
            model_name=job.model,
            backend="openai",
            system_prompt=job.system,
            response_format=create_model("Answer", **fields) if job.fields else None,
            generation_params={"max_tokens": MAX_TOKENS},
            backend_params={
                "base_url": job.base_url,
                "api_key": "none",
                "max_requests_per_minute": 10_000_000,
                "max_tokens_per_minute": 10_000_000_000,
                "max_concurrent_requests": job.in_flight,
                "require_all_responses": False,
            },
        )
        rows = writer([{"id": number} for number in job.ids]).dataset
        return dict(zip(rows["id"], rows["text"], strict=True))

    measure(play)


def _stay_offline() -> None:
    """Point the token counter at the vocabulary that comes with litellm; it would fetch one at its first use."""
    found = importlib.util.find_spec("litellm")
    if found is not None and found.origin is not None:
        folder = Path(found.origin).parent / "litellm_core_utils" / "tokenizers"
        os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    os.environ["CURATOR_DISABLE_RICH_DISPLAY"] = "1"


if __name__ == "__main__":
    main()
