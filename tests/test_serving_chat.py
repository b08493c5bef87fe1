"""A program that asks an LLM to classify, pointed at the server by its base_url alone: the real `openai` client."""

import enum
import json
import math
from collections.abc import Iterator
from typing import Any, Literal

import httpx
import pytest
from openai import BadRequestError, NotFoundError, OpenAI  # noqa: TID253 - a test of this client
from pydantic import BaseModel

from factory.serving.http.response_format import UnsupportedFormat, content_of
from tests.serving import Running, running

LABELS = ("music", "weather")


class Intent(enum.StrEnum):
    MUSIC = "music"
    WEATHER = "weather"
    OTHER = "other"


class WithEnum(BaseModel):
    intent: Intent


class WithLiteral(BaseModel):
    intent: Literal["music", "weather"]


class WithText(BaseModel):
    intent: str


class Lacking(BaseModel):
    intent: Literal["music", "news"]


class Two(BaseModel):
    intent: str
    reason: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("serving")) as one:
        yield one


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="none is needed", max_retries=0) as one:
        yield one


def ask(client: OpenAI, text: Any = "play some jazz", **more: Any) -> Any:
    messages = [
        {"role": "system", "content": "Classify the text: music or weather."},
        {"role": "user", "content": "rain"},
        {"role": "assistant", "content": "weather"},
        {"role": "user", "content": text},
    ]
    return client.chat.completions.create(model="gpt-4o-mini", messages=messages, **more)  # type: ignore[call-overload]


def test_the_answer_is_the_label_of_the_last_user_message(client: OpenAI) -> None:
    said = ask(client, temperature=0, max_tokens=5, seed=1, user="somebody")
    assert (said.choices[0].message.content, said.choices[0].finish_reason) == ("music", "stop")
    assert (said.model, said.object) == ("tiny:1", "chat.completion")
    assert (said.usage.prompt_tokens, said.usage.completion_tokens, said.usage.total_tokens) == (11, 1, 12)
    assert said.choices[0].logprobs is None
    extra = said.model_extra["classification"]
    assert (extra["label"], extra["version"]) == ("music", 1)
    assert extra["probability"] == extra["probabilities"]["music"] > 0.5


def test_the_confidence_is_in_the_logprobs_when_asked_for(client: OpenAI) -> None:
    said = ask(client, logprobs=True, top_logprobs=5)
    (token,) = said.choices[0].logprobs.content
    assert (token.token, [one.token for one in token.top_logprobs]) == ("music", ["music", "weather"])
    assert math.exp(token.logprob) == pytest.approx(said.model_extra["classification"]["probability"])


def test_content_in_parts_is_read_and_anything_but_text_refused(client: OpenAI) -> None:
    parts = [{"type": "text", "text": "rain"}, {"type": "text", "text": "snow"}]
    assert ask(client, parts).choices[0].message.content == "weather"
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    with pytest.raises(BadRequestError, match="expected text as content"):
        ask(client, [*parts, image])


@pytest.mark.parametrize("form", [WithEnum, WithLiteral, WithText])
def test_a_schema_with_one_property_is_filled(form: type[BaseModel], client: OpenAI) -> None:
    messages = [{"role": "user", "content": "play"}]
    said = client.chat.completions.parse(model="any", messages=messages, response_format=form)  # type: ignore[arg-type]
    assert said.choices[0].message.parsed == form.model_validate({"intent": "music"})


@pytest.mark.parametrize(
    ("form", "message"), [(Lacking, "the enum lacks labels this model may answer: weather"), (Two, "one property")]
)
def test_a_schema_that_a_label_cannot_fill_is_refused(form: type[BaseModel], message: str, client: OpenAI) -> None:
    messages = [{"role": "user", "content": "play"}]
    with pytest.raises(BadRequestError, match=message) as caught:
        client.chat.completions.parse(model="any", messages=messages, response_format=form)  # type: ignore[arg-type]
    assert (caught.value.param, caught.value.code) == ("response_format", "unsupported_format")


@pytest.mark.parametrize(
    ("response_format", "content"),
    [
        (None, "music"),
        ({"type": "text"}, "music"),
        ({"type": "json_object"}, '{"label": "music"}'),
        ({"type": "json_schema", "json_schema": {"schema": {"enum": ["weather", "music"]}}}, '"music"'),
        ({"type": "json_schema", "json_schema": {"schema": {"type": "string"}}}, '"music"'),
    ],
)
def test_the_label_is_written_as_the_format_wants_it(response_format: dict[str, Any] | None, content: str) -> None:
    assert content_of(response_format, LABELS)("music") == content


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array"},
        {"type": "object"},
        {"type": "object", "properties": {"n": {"type": "integer"}}},
        {"type": "object", "properties": {"n": {}}},
        {"type": "object", "properties": {"n": True}},
        {"type": "object", "properties": {"\ud800": {"type": "string"}}},
        {"type": "object", "properties": {"n": {"$ref": "#/$defs/missing"}}},
        {"type": "object", "properties": {"n": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/a"}}},
        {"type": "object", "properties": {"n": {"$ref": "https://example.org/schema"}}},
        {"type": "object", "properties": {"n": {"enum": 7}}},
        {"$ref": 7},
    ],
)
def test_a_schema_nobody_foresaw_is_refused_and_never_followed(schema: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedFormat):
        content_of({"type": "json_schema", "json_schema": {"schema": schema}}, LABELS)


@pytest.mark.parametrize("response_format", [{}, {"type": "grammar"}, {"type": "json_schema"}, {"type": ["text"]}])
def test_an_unknown_format_is_refused_and_an_empty_one_is_text(response_format: dict[str, Any]) -> None:
    if not response_format:
        assert content_of(response_format, LABELS)("music") == "music"
        return
    with pytest.raises(UnsupportedFormat):
        content_of(response_format, LABELS)


def test_a_stream_gives_the_same_answer(client: OpenAI) -> None:
    chunks = list(ask(client, stream=True, logprobs=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "music"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices] == [None, "stop"]
    assert chunks[0].choices[0].logprobs.content[0].token == "music"
    assert chunks[-1].usage.total_tokens == 12


def test_several_choices_are_all_the_same(client: OpenAI) -> None:
    assert [choice.message.content for choice in ask(client, n=3).choices] == ["music"] * 3


@pytest.mark.parametrize("more", [{"tools": [{"type": "function", "function": {"name": "f"}}]}, {"functions": [{}]}])
def test_tools_are_refused(more: dict[str, Any], client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="calls no tools"):
        ask(client, extra_body=more)


def test_a_chat_without_a_user_has_no_text(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="expected a message with role user"):
        client.chat.completions.create(model="any", messages=[{"role": "system", "content": "x"}])


def test_the_model_is_listed_and_found_by_its_name(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    for name in ("gpt-4o-mini", "../../etc/passwd", "tiny:2"):
        with pytest.raises(NotFoundError, match=r"this server has one model: tiny|Not Found"):
            client.models.retrieve(name)


def test_classify_answers_one_text_or_several(client: OpenAI) -> None:
    one = client.post("/classify", cast_to=httpx.Response, body={"model": "any", "input": "rain"}).json()
    assert [(row["index"], row["label"], row["num_classes"]) for row in one["data"]] == [(0, "weather", 2)]
    both = client.post("/classify", cast_to=httpx.Response, body={"input": ["rain", "play"]}).json()
    assert [row["label"] for row in both["data"]] == ["weather", "music"]
    assert both["labels"] == list(LABELS)
    assert both["data"][1]["probs"][0] == both["data"][1]["probability"]


def test_the_answer_is_valid_json_for_labels_of_every_script() -> None:
    odd = 'weather "très" \\ 雨'
    schema = {"type": "object", "properties": {"label": {"type": "string"}}}
    write = content_of({"type": "json_schema", "json_schema": {"schema": schema}}, (odd,))
    assert json.loads(write(odd)) == {"label": odd}
