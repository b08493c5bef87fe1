"""The child process of the embedded teacher: llama.cpp's server on a loopback port, until its parent goes away.

    FACTORY_LLAMA_KEY=... python -m factory.teacher.llama_server WEIGHTS '{"n_slots": 4}'

The address is written to standard output once the model is loaded; llama.cpp's own messages go to standard error. The
parent holds the other end of standard input and never writes: when it closes, for whatever reason, the child ends.
"""

import json
import os
import select
import sys
import threading
from dataclasses import dataclass

KEY_ENV = "FACTORY_LLAMA_KEY"
CONTEXT_TOKENS = 2048
"""For each slot; memory grows with it."""


def wait_for_end_of_parent() -> None:
    """Return when standard input closes or the parent process changes."""
    parent = os.getppid()
    while os.getppid() == parent:
        # A fork of the parent may hold the pipe open for longer than the parent lives, hence the look at its id.
        ready, _, _ = select.select([0], [], [], 1.0)
        if ready and not os.read(0, 1):
            break


def end_with_parent() -> None:
    """End this process when its parent ends, or closes its standard input."""
    wait_for_end_of_parent()
    os._exit(0)  # nothing to save, and llama.cpp's threads would hold up a polite exit


@dataclass(frozen=True)
class Settings:
    """How llama.cpp runs; the defaults are the fastest of `python -m benchmarks.embedded` on two cores."""

    n_slots: int = 4
    """Requests at once; each slot reads the shared beginning of its prompts once."""
    n_threads: int | None = None
    """Null: as many as the cores this process may use."""
    n_ubatch: int = 512
    """Tokens computed at once while reading."""
    kv_unified: bool = False
    """One store of keys and values for all slots, in place of an equal share for each."""
    cache_type: str = "f16"
    """Of keys and values: `f16` or `q8_0`."""
    cache_prompt: bool = True
    """Whether a slot keeps what it has read, so that the shared beginning of prompts is read once."""
    slot_prompt_similarity: float = 0.1
    """How much of a prompt a slot must have read already to be chosen for it; 0: any slot."""
    spin_count: int = 20_000
    """How often a thread looks whether the others are done before it sleeps. The library's default, 300,000, stalls all
    threads where others use the cores too; 0 costs a fifth of the speed where nobody does."""


def serve(weights: str, settings: Settings) -> None:
    """Load the weights, say where the server listens, and stay."""
    os.environ["GOMP_SPINCOUNT"] = str(settings.spin_count)  # read when the library is loaded
    from xllamacpp import CommonParams, Server, ggml_type

    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # llama.cpp prints where it likes
    params = CommonParams()
    params.model.path = weights
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [os.environ.pop(KEY_ENV)]
    params.n_parallel = settings.n_slots
    params.n_ctx = CONTEXT_TOKENS * settings.n_slots
    params.n_ubatch = settings.n_ubatch
    params.kv_unified = settings.kv_unified
    params.cache_type_k = params.cache_type_v = getattr(ggml_type, f"GGML_TYPE_{settings.cache_type.upper()}")
    params.cache_prompt = settings.cache_prompt
    params.slot_prompt_similarity = settings.slot_prompt_similarity
    params.ui = params.endpoint_slots = False
    params.cache_ram_mib = 0  # its prompt cache would grow by gigabytes
    n_threads = settings.n_threads or len(os.sched_getaffinity(0))
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = n_threads
    try:
        server = Server(params)
    except RuntimeError as error:
        sys.exit(str(error))  # llama.cpp's own lines, above this one in the log, say more than a traceback would
    report.write(f"{server.listening_address}\n")
    report.close()
    threading.Event().wait()


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    serve(sys.argv[1], Settings(**json.loads(sys.argv[2])))
