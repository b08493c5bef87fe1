"""Who is asked, and what that may cost: the `teacher` of a spec."""

import os
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import Field, field_validator, model_validator

from factory.spec_base import Model

PRICES_FILE = Path(__file__).with_name("prices.yaml")


class Budget(Model):
    """The most a build may ask of the teacher, answers from the cache included; null means no bound."""

    calls: Annotated[int, Field(gt=0)] | None = None
    tokens: Annotated[int, Field(gt=0)] | None = None
    usd: Annotated[float, Field(ge=0)] | None = None


class Prices(Model):
    """What the teacher costs, in US dollars for a million tokens."""

    input_usd_per_million: Annotated[float, Field(ge=0)]
    output_usd_per_million: Annotated[float, Field(ge=0)]


OPENAI_URL = "https://api.openai.com/v1"


class _PriceList(Model):
    """What is in `prices.yaml`."""

    batch_ratio: Annotated[float, Field(gt=0, le=1)]
    models: dict[str, tuple[float, float]]


@cache
def _price_list() -> _PriceList:
    return _PriceList.model_validate(yaml.safe_load(PRICES_FILE.read_text(encoding="utf-8")))


def _is_plain_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # a port that is no number is found when it is asked for
    except ValueError:
        return False
    return bool(re.fullmatch(r"https?://[^@\s]+", url) and parts.hostname)


class TeacherSpec(Model):
    """Which LLM may be asked, how fast, and what may be spent."""

    name: Literal["embedded", "openai", "scripted"] = "embedded"
    model: str | None = None
    """Model name at the endpoint (`openai`), or path of another GGUF file (`embedded`)."""
    base_url: str | None = None
    """Endpoint of an OpenAI-compatible server; default: the value of OPENAI_BASE_URL, else OpenAI's own."""
    mode: Literal["live", "batch"] = "live"
    """`batch` sends requests through the Batch API of `openai`: usually at half the price, answered within a day."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; the key itself is never written anywhere."""
    concurrency: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Requests in flight at once; default: 4 for the embedded teacher, 8 for others."""
    timeout_s: Annotated[float, Field(gt=0, le=3600)] | None = None
    """How long one attempt may take; default: 900 for the embedded teacher, 120 for others."""
    deadline_s: Annotated[float, Field(gt=0)] | None = None
    """How long one request may take with all its attempts; then its row is left out and asked for again next time."""
    hedge_after_s: Annotated[float, Field(gt=0)] | None = None
    """A call without an answer for so long is made a second time and the first answer counts; both are charged."""
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    tokens_per_minute: Annotated[float, Field(gt=0)] | None = None
    """Tokens of the prompt and the most that may be written, evenly spread, as servers count them."""
    budget: Budget = Budget()
    prices: Prices | None = None
    """What is really paid, in mode `batch` too; default: the list of known prices (factory/prices.yaml) for models of
    OpenAI itself."""

    # Neither message repeats the value: it may hold a secret.
    @field_validator("api_key_env")
    @classmethod
    def _check_variable_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError("the name of an environment variable that holds the key, never the key itself")
        return name

    @field_validator("base_url")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        if url is not None and not _is_plain_url(url):
            raise ValueError("expected http://... or https://... without user and password")
        return url

    @property
    def n_in_flight(self) -> int:
        """Requests in flight at once."""
        # Four already keep two cores busy, and each further slot of llama.cpp reads the shared part of a prompt anew.
        return self.concurrency or (4 if self.name == "embedded" else 8)

    @property
    def known_prices(self) -> Prices | None:
        """Prices of the spec, else those of the list; None where neither knows."""
        if self.prices is not None or self.name != "openai" or self.model is None:
            return self.prices
        if not self.is_openai:
            return None  # another server may serve a model of the same name at any price
        known = _price_list().models.get(re.sub(r"-\d{4}-\d\d-\d\d$", "", self.model))
        ratio = _price_list().batch_ratio if self.mode == "batch" else 1.0
        return known and Prices(input_usd_per_million=known[0] * ratio, output_usd_per_million=known[1] * ratio)

    @property
    def url(self) -> str:
        """Address of an OpenAI-compatible server, from the spec or the environment."""
        return self.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL

    @property
    def is_openai(self) -> bool:
        """Whether that is OpenAI itself."""
        parts = urlsplit(self.url)
        return (parts.scheme, parts.hostname) == ("https", "api.openai.com")

    @model_validator(mode="after")
    def _check_money(self) -> "TeacherSpec":
        if self.name == "openai" and self.budget.usd is not None and self.known_prices is None:
            raise ValueError(
                f"a usd budget needs prices, and those of {self.model} are not known: give "
                "prices: {input_usd_per_million, output_usd_per_million}"
            )
        if self.name == "openai" and self.model is None:
            raise ValueError("the openai teacher needs a model name")
        if self.name != "openai" and self.mode == "batch":
            raise ValueError(f"mode batch is for the openai teacher; the {self.name} teacher answers live")
        if self.name == "embedded" and self.hedge_after_s is not None:
            raise ValueError("hedge_after_s: the embedded teacher has nobody to ask a second time but itself")
        return self
