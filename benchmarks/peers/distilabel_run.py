"""distilabel: one generation step with its cache on; how many calls are in flight is the size of a batch."""

from collections.abc import Mapping

from benchmarks.peers.peer_job import MAX_TOKENS, Job, measure, prompt_of


def main() -> None:
    """Import what is not to be timed, then measure."""
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    def play(job: Job) -> Mapping[int, str]:
        rows = [{"id": number, "instruction": prompt_of(number)} for number in job.ids]
        with Pipeline(name="reviews", cache_dir=job.folder / "distilabel") as pipeline:
            load = LoadDataFromDicts(data=rows, batch_size=job.in_flight)
            write = TextGeneration(
                llm=OpenAILLM(
                    model=job.model,
                    base_url=job.base_url,
                    api_key="none",
                    generation_kwargs={"max_new_tokens": MAX_TOKENS},
                ),
                system_prompt=job.system,
                input_batch_size=job.in_flight,
            )
            load >> write
        done = pipeline.run(use_cache=True)["default"]["train"]
        answers = zip(done["id"], done["generation"], strict=True)
        return {number: answer for number, answer in answers if answer is not None}

    measure(play)


if __name__ == "__main__":
    main()
