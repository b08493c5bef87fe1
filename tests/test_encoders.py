"""Encoders: the bundled one, folders, and what happens when a model is not there."""

import json
from pathlib import Path

import numpy as np
import pytest

from factory.encoders import ENCODERS, load_encoder, mpnet
from factory.encoders.transformer import batches_by_length, pad
from factory.errors import ArtifactCorrupt, ArtifactMissing
from tests.tiny_bert import write_tiny_bert


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny_bert(tmp_path / "tiny")


def test_the_bundled_encoder_puts_like_texts_near_each_other() -> None:
    encoder = load_encoder()
    vectors = encoder.encode(["play some jazz", "put on a jazz record", "will it rain tomorrow"])
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]


def test_the_identity_names_the_encoder_and_hashes_its_files(tiny: Path) -> None:
    assert load_encoder().identity.startswith("all-MiniLM-L6-v2@")
    before = load_encoder(str(tiny)).identity
    assert before.startswith("tiny@")
    assert load_encoder(str(tiny)).identity == before
    (tiny / "sentence_bert_config.json").write_text('{"max_seq_length": 12}', encoding="utf-8")
    assert load_encoder(str(tiny)).identity != before


def test_the_identity_does_not_depend_on_where_the_folder_is(tiny: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "tiny"
    write_tiny_bert(elsewhere)
    assert load_encoder(str(tiny)).identity == load_encoder(str(elsewhere)).identity


def test_an_unchanged_encoder_is_opened_once(tiny: Path) -> None:
    assert load_encoder(str(tiny)) is load_encoder(str(tiny))


def test_a_text_has_the_same_vector_alone_and_in_a_batch(tiny: Path) -> None:
    texts = ["play jazz", "", "rain " * 500, "🎷 احجز", "\ud800", "a\x00b", "play jazz"]
    together = load_encoder(str(tiny)).encode(texts)
    # Another folder name, so that nothing is remembered.
    alone = load_encoder(str(tiny.rename(tiny.with_name("again"))))
    np.testing.assert_allclose(together, np.vstack([alone.encode([text]) for text in texts]), atol=1e-5)


def test_no_text_gives_no_vector(tiny: Path) -> None:
    assert load_encoder(str(tiny)).encode([]).shape == (0, 32)


def test_texts_are_cut_off_where_the_model_ends(tiny: Path) -> None:
    encoder = load_encoder(str(tiny))
    assert encoder.max_length == 48
    assert len(encoder.tokenize(["rain " * 500])[0]) == 48


def test_a_model_that_is_not_here_is_missed_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ArtifactMissing, match=r"encoder nobody/nothing: .* not on this machine and HF_HUB_OFFLINE"):
        load_encoder("nobody/nothing")
    with pytest.raises(ArtifactMissing, match=r"encoder \.\./no such folder!"):
        load_encoder("../no such folder!")


def test_a_folder_without_weights_is_refused(tiny: Path) -> None:
    (tiny / "model.safetensors").unlink()
    with pytest.raises(ArtifactMissing, match=r"expected .*model\.safetensors, which does not exist"):
        load_encoder(str(tiny))


@pytest.mark.parametrize(
    ("file", "content", "found"),
    [
        ("modules.json", json.dumps([{"type": "sentence_transformers.models.Dense"}]), "has Dense"),
        ("1_Pooling/config.json", '{"pooling_mode_max_tokens": true}', "has pooling max"),
        ("1_Pooling/config.json", '{"pooling_mode_max_tokens": true, "pooling_mode_cls_token": true}', "cls, max"),
        ("config.json", "[]", "expected a JSON object"),
    ],
)
def test_a_shape_we_cannot_compute_is_refused(tiny: Path, file: str, content: str, found: str) -> None:
    (tiny / file).write_text(content, encoding="utf-8")
    with pytest.raises(ArtifactCorrupt, match=found):
        load_encoder(str(tiny))


def test_first_token_pooling_differs_from_the_mean(tiny: Path) -> None:
    mean = load_encoder(str(tiny)).encode(["play jazz"])
    (tiny / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}', encoding="utf-8")
    first = load_encoder(str(tiny)).encode(["play jazz"])
    assert abs(mean @ first.T).item() < 0.999


def test_every_named_encoder_opens() -> None:
    for name in sorted(ENCODERS.keys() - {mpnet.NAME}):  # tests/test_mpnet.py: it is not installed with the factory
        assert (load_encoder(name).folder / "tokenizer.json").is_file()


def test_batches_hold_every_text_once_and_stay_within_their_size() -> None:
    lengths = [3, 900, 1, 0, 12, 12, 5000]
    batches = list(batches_by_length(lengths, 1000))
    assert sorted(position for batch in batches for position in batch) == list(range(7))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 1000 for batch in batches)


def test_padding_is_masked() -> None:
    ids, mask = pad([[5, 6], [], [7]])
    assert ids.tolist() == [[5, 6], [0, 0], [7, 0]]
    assert mask.tolist() == [[1, 1], [0, 0], [1, 0]]
    assert pad([[]])[0].shape == (1, 1)
