"""The child process of `factory ui` that serves the deployments: it starts each run that is due as a process.

It ends when its parent goes away; the runs that are going on are cancelled then, and go on when they are run again.
"""

import asyncio
import os
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING

from factory.teacher.llama_server import wait_for_end_of_parent
from flows.choices import model_names, task_names

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.runner import Runner

POLL_S = 1.0
"""How often it asks for runs that are due."""
MOST_RUNS = 4
"""At once; one that waits for approval is one of them."""
MOST_LEFT = 200
"""What Prefect lists at once."""
CANCEL_S = 12.0
"""How long runs may take to end."""


async def serve() -> None:
    """Serve until the parent goes away."""
    from prefect.runner import Runner

    from flows.deployments import deployments

    await _wait_for_server()
    runner = Runner(name="factory-ui", query_seconds=POLL_S, pause_on_shutdown=False, limit=MOST_RUNS)
    ids = [await runner.aadd_deployment(one) for one in deployments()]
    await _end_what_is_left(ids)
    ended = asyncio.create_task(asyncio.to_thread(wait_for_end_of_parent))
    serving = asyncio.create_task(runner.start())
    print("ready", flush=True)  # noqa: T201 - to the parent
    known = (task_names(), model_names())
    while not ended.done() and not serving.done():
        await asyncio.wait({ended, serving}, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
        if known != (now := (task_names(), model_names())):
            known = now
            for one in deployments():  # new choices for the forms
                await one.aapply()
    if serving.done():
        serving.result()
        return
    await asyncio.wait_for(_stop(runner, serving), CANCEL_S)


async def _stop(runner: "Runner", serving: "asyncio.Task[None]") -> None:
    await runner.astop()
    await serving


async def _wait_for_server() -> None:
    from prefect import get_client

    async with get_client() as client:
        while await client.api_healthcheck() is not None:  # the parent knows how long that may take
            await asyncio.sleep(0.2)


async def _end_what_is_left(ids: "list[UUID]") -> None:
    """Say of runs that seem to go on since the machine was stopped that they do not: nobody else serves these."""
    from prefect import get_client
    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterId,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort
    from prefect.states import Crashed

    going = [StateType.RUNNING, StateType.PENDING, StateType.PAUSED, StateType.CANCELLING]
    async with get_client() as client:
        left = await client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=ids)),
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=going))),
            limit=MOST_LEFT,
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        )
        for run in left:
            why = "factory ui was stopped while this ran; run it again: it goes on where it was"
            await client.set_flow_run_state(run.id, Crashed(message=why), force=True)


def _hear(*_: object) -> None:
    """Do nothing at a SIGTERM; to ignore the signal would be inherited by the runs."""


def _main() -> None:
    signal.signal(signal.SIGTERM, _hear)
    code = 1
    try:
        asyncio.run(serve())
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        # Whatever happened, no run outlives its worker: they are all in its session.
        sys.stderr.flush()
        signal.signal(signal.SIGTERM, _hear)  # the runner has put its own in place
        os.killpg(0, signal.SIGTERM)
        time.sleep(0.5 if code == 0 else 5.0)
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    _main()
