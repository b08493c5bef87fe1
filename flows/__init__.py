"""Prefect flows: order, retries and progress; no logic.

Prefect reads its settings when it is imported. Ours are defaults: whatever a person has set stays.
"""

import os

_DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Without PREFECT_API_URL Prefect starts a small server of its own for the run. On a busy machine that takes
    # longer than Prefect's 20 seconds, and its last events are lost noisily when the run ends.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    # What goes wrong is raised, and said by the command line in one line; Prefect would print the traceback too.
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
}

for _name, _value in _DEFAULTS.items():
    os.environ.setdefault(_name, _value)
