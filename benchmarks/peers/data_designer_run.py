"""NeMo Data Designer: one text column over seed rows, resuming what it finds in its folder."""

import json
from collections.abc import Mapping

from benchmarks.peers.peer_job import MAX_TOKENS, Job, measure, prompt_of

N_SEEDS = 10_000
"""Rows of the seed file, never fewer than those asked for: the same file for a job and for more of it."""


def main() -> None:
    """Import what is not to be timed, then measure."""
    import data_designer.config as dd
    import pandas as pd
    from data_designer.interface import DataDesigner, ResumeMode

    def play(job: Job) -> Mapping[int, str]:
        seeds = job.folder / "seeds.parquet"
        if not seeds.is_file():
            numbers = range(1, max(N_SEEDS, job.calls) + 1)
            pd.DataFrame({"number": numbers, "asked": map(prompt_of, numbers)}).to_parquet(seeds)
        provider = dd.ModelProvider(name="stub", endpoint=job.base_url, provider_type="openai", api_key="none")
        limits = dd.ChatCompletionInferenceParams(max_tokens=MAX_TOKENS, max_parallel_requests=job.in_flight)
        model = dd.ModelConfig(
            alias="writer", model=job.model, provider="stub", skip_health_check=True, inference_parameters=limits
        )
        builder = dd.DataDesignerConfigBuilder(model_configs=[model])
        builder.with_seed_dataset(
            dd.LocalFileSeedSource(path=str(seeds)), sampling_strategy=dd.SamplingStrategy.ORDERED
        )
        asked = {"name": "text", "model_alias": "writer", "system_prompt": job.system, "prompt": "{{ asked }}"}
        if job.schema is None:
            builder.add_column(dd.LLMTextColumnConfig(**asked))
        else:
            builder.add_column(dd.LLMStructuredColumnConfig(**asked, output_format=job.schema))
        designer = DataDesigner(model_providers=[provider], artifact_path=job.folder / "artifacts")
        designer.set_run_config(dd.RunConfig(otel_metrics_port=None))
        made = designer.create(builder, num_records=job.calls, dataset_name="reviews", resume=ResumeMode.IF_POSSIBLE)
        rows = made.load_dataset()
        answers = zip(rows["number"].tolist(), rows["text"].tolist(), strict=True)
        return {number: answer if job.schema is None else json.dumps(answer) for number, answer in answers}

    measure(play)


if __name__ == "__main__":
    main()
