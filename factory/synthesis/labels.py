"""The baseline strategy: describe a label and ask for texts.

As in Ye et al., "ZeroGen: Efficient Zero-shot Learning via Dataset Generation", EMNLP 2022, arXiv:2202.07922, with a
chat model. Without anything that makes prompts differ, texts soon repeat each other; `attributes` is the cure.
"""

import math
from typing import Annotated

from pydantic import Field

from factory.events import Progressed, emit
from factory.records import Rows
from factory.spec import Label, Model
from factory.store import Stage
from factory.synthesis.parse import texts_in
from factory.synthesis.strategy import PROMPTS, TOKENS_PER_TEXT, Strategy, WriteParams, Written, rows_from, write_all
from factory.prompts import render
from factory.teacher import Message, Request, Teacher
from factory.teacher.forecast import Forecast, forecast

SYSTEM = PROMPTS / "labels_system.v1.jinja"
USER = PROMPTS / "labels_user.v1.jinja"


class LabelsOptions(Model):
    """What a spec may set."""

    texts_per_call: Annotated[int, Field(ge=1, le=50)] = 8
    sampling_temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
