"""Energy of the processor as its own meter counts it (RAPL), where the system lets us read it."""

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


def read_joules(folder: Path = POWERCAP) -> dict[str, tuple[float, float]] | None:
    """Read every processor package's meter.

    Args:
        folder: Where the kernel shows them.

    Returns:
        By package: joules so far, and at how many the meter begins again; None where none can be read.
    """
    found = {}
    for package in sorted(folder.glob("intel-rapl:[0-9]")):
        try:
            counted, most = ((package / name).read_text("ascii") for name in ("energy_uj", "max_energy_range_uj"))
            found[package.name] = (int(counted) / 1e6, int(most) / 1e6)
        except (OSError, ValueError):
            return None  # usually for root only
    return found or None


def joules_between(
    before: dict[str, tuple[float, float]] | None, after: dict[str, tuple[float, float]] | None
) -> float | None:
    """Return the joules of all packages between two readings; None where there is none."""
    if before is None or after is None or before.keys() != after.keys():
        return None
    return sum((after[one][0] - before[one][0]) % before[one][1] for one in before)
