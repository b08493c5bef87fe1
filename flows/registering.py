"""`factory deploy`: the same deployments on a Prefect server that is there already."""

from pathlib import Path

from factory.errors import FactoryError
from flows.choices import OUTPUTS_ENV, TASKS_ENV


def register_all(pool: str, tasks: Path, outputs: Path) -> dict[str, str]:
    """Register every deployment on the server of `PREFECT_API_URL`.

    Args:
        pool: Name of the work pool whose workers run them.
        tasks: Folder of the task folders, as the workers see it; its tasks are the choices of the forms.
        outputs: Where results and models go, as the workers see it.

    Returns:
        The page of each deployment, by its name.

    Raises:
        FactoryError: No server is named, it does not answer, or it has no such pool.
    """
    import httpx
    from prefect import get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value()
    if not url:
        hint = "set PREFECT_API_URL, such as http://prefect.lan:4200/api; on this machine alone: factory ui"
        raise FactoryError("no Prefect server is named", hint=hint)
    from flows.deployments import deployments

    env = {
        TASKS_ENV: str(tasks.resolve()),
        OUTPUTS_ENV: str(outputs.resolve()),
        "PREFECT_LOGGING_LEVEL": "INFO",
    }
    try:
        with get_client(sync_client=True) as client:
            client.read_work_pool(pool)
        made = {f"{one.flow_name}/{one.name}": one.apply() for one in deployments(pool=pool, env=env)}
    except ObjectNotFound as error:
        hint = f"make it: prefect work-pool create {pool} --type process"
        raise FactoryError(f"the Prefect server at {url} has no work pool {pool!r}", hint=hint) from error
    except httpx.HTTPError as error:
        raise FactoryError(f"the Prefect server at {url} does not answer: {type(error).__name__}: {error}") from error
    pages = url.removesuffix("/").removesuffix("/api")
    return {name: f"{pages}/v2/deployments/deployment/{number}" for name, number in made.items()}
