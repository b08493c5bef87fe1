import json
import os
import resource
import subprocess
import sys
import threading
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory.errors import ArtifactCorrupt, ArtifactError
from factory.events import Event, Warned, listening
from factory.teacher.replies import Exchange, Replies, key_of
from tests.fault_server import completion


@pytest.fixture
def replies(tmp_path: Path) -> Any:
    store = Replies(tmp_path / "outputs" / "replies.log")
    yield store
    store.close()


def exchange(number: int, text: str = "ok") -> Exchange:
    payload = {"model": "m", "messages": [{"role": "user", "content": f"question {number}"}]}
    return Exchange("e", payload, 0, completion(text), seconds=1.5)


def put(replies: Replies, number: int, text: str = "ok") -> str:
    key = exchange(number).key
    replies.put(key, exchange(number, text))
    return key


def test_a_reply_comes_back_as_it_came_with_what_it_answers(replies: Replies) -> None:
    text = 'line\u2028 \n "quoted" 日本 \x00 end'
    key = put(replies, 1, text)
    assert replies.get(key) == completion(text)
    found = replies.find(key)
    assert found is not None
    assert (found.endpoint, found.payload, found.seconds) == ("e", exchange(1).payload, 1.5)
    assert replies.get(exchange(2).key) is None
    assert len(replies) == 1


def test_replies_outlive_the_object(replies: Replies) -> None:
    key = put(replies, 1)
    replies.close()
    again = Replies(replies.path)
    assert again.get(key) == completion()
    again.close()
    again.close()


def test_the_first_reply_under_a_key_stays(replies: Replies) -> None:
    key = put(replies, 1, "first")
    put(replies, 1, "second")
    assert replies.get(key) == completion("first")


def test_no_file_is_made_before_the_first_use(tmp_path: Path) -> None:
    Replies(tmp_path / "outputs" / "replies.log")
    assert not (tmp_path / "outputs").exists()


PAYLOAD = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.0, "max_tokens": 8}


@pytest.mark.parametrize(
    ("identity", "payload", "sample"),
    [
        ("b", PAYLOAD, 0),
        ("a", PAYLOAD, 1),
        ("a", PAYLOAD | {"model": "n"}, 0),
        ("a", PAYLOAD | {"temperature": 0.5}, 0),
        ("a", PAYLOAD | {"max_tokens": 9}, 0),
        ("a", PAYLOAD | {"logprobs": True}, 0),
        ("a", PAYLOAD | {"messages": [{"role": "system", "content": "hi"}]}, 0),
    ],
)
def test_whatever_may_change_a_reply_changes_its_key(identity: str, payload: dict[str, Any], sample: int) -> None:
    assert key_of(identity, payload, sample) != key_of("a", PAYLOAD, 0)


def test_the_key_is_the_same_in_every_process_and_version() -> None:
    assert key_of("a", PAYLOAD, 0) == "4a8c8e49fff39562c9fe959d15e59e2c67494b1770913b3b7ca6edd78690721a"


def test_property_order_of_a_schema_counts() -> None:
    one, two = {"schema": {"a": 1, "b": 2}}, {"schema": {"b": 2, "a": 1}}
    assert key_of("a", one, 0) != key_of("a", two, 0)


def test_a_file_that_is_something_else_is_refused_and_left_alone(replies: Replies) -> None:
    replies.path.parent.mkdir()
    replies.path.write_bytes(b"precious, but no replies\n" * 100)
    with pytest.raises(ArtifactCorrupt, match=r"replies\.log: not a reply store"):
        put(replies, 1)
    assert replies.path.read_bytes() == b"precious, but no replies\n" * 100


def damage_at(path: Path, *places: int) -> None:
    content = bytearray(path.read_bytes())
    for place in places:
        content[place] ^= 0x20
    path.write_bytes(bytes(content))


def test_damage_in_the_middle_loses_its_own_line_and_says_so(replies: Replies) -> None:
    keys = [put(replies, number) for number in range(9)]
    replies.close()
    n_bytes = replies.path.stat().st_size // 9
    damage_at(replies.path, 4 * n_bytes + n_bytes // 2)
    warnings: list[Event] = []
    with listening(warnings.append):
        found = [replies.get(key) is not None for key in keys]
    assert found == [True] * 4 + [False] + [True] * 4
    assert [type(event) for event in warnings] == [Warned]
    assert "1 damaged line" in str(warnings[0])
    put(replies, 4)
    assert replies.get(keys[4]) == completion()


def test_damage_after_the_file_was_opened_is_noticed_too(replies: Replies) -> None:
    keys = [put(replies, number) for number in range(3)]
    with replies.path.open("r+b") as file:
        file.seek(replies.path.stat().st_size // 2)
        file.write(b"\x00\x00")
    assert [replies.get(key) is not None for key in keys] == [True, False, True]
    assert replies.n_damaged == 1


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(0, 2000))
def test_a_truncated_file_loses_only_what_was_cut_off(replies: Replies, length: int) -> None:
    replies.close()
    replies.path.unlink(missing_ok=True)
    keys = [put(replies, number) for number in range(6)]
    ends = [len(line) for line in replies.path.read_bytes().splitlines(keepends=True)]
    whole = sum(sum(ends[: n + 1]) <= length for n in range(6))
    os.truncate(replies.path, min(length, sum(ends)))
    assert [replies.get(key) is not None for key in keys] == [n < whole for n in range(6)]
    put(replies, 6)  # closes the torn line first
    again = Replies(replies.path)
    assert again.get(exchange(6).key) == completion()
    # Where nothing but the line end was cut off, closing the line made it whole again.
    is_mended = length + 1 in [sum(ends[: n + 1]) for n in range(6)]
    assert len(again) == whole + 1 + is_mended
    again.close()


FILL_UP = """
import sys
from pathlib import Path
from factory.errors import ArtifactError
from factory.teacher.replies import Exchange, Replies
replies = Replies(Path(sys.argv[1]))
n = 0
try:
    while n < 5000:
        exchange = Exchange("e", {"n": n}, 0, {"choices": ["x" * 1000]}, 0.1)
        replies.put(exchange.key, exchange)
        n += 1
except ArtifactError as error:
    print(n, error, error.hint)
"""


def test_a_write_that_fails_is_a_clear_error_and_loses_nothing_stored(tmp_path: Path) -> None:
    path = tmp_path / "replies.log"
    done = subprocess.run(
        [sys.executable, "-c", FILL_UP, str(path)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000)),
    )
    n_stored, message = done.stdout.split(" ", 1)
    assert "check that the disk has space" in message
    replies = Replies(path)
    assert len(replies) == int(n_stored) > 10
    assert path.read_bytes().endswith(b"}\n")
    replies.close()


def test_a_full_disk_is_named_as_such(replies: Replies, monkeypatch: pytest.MonkeyPatch) -> None:
    key = put(replies, 1)
    real = os.write

    def half(fd: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(28, "No space left on device")
        return real(fd, bytes(data[: len(data) // 2]))

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(ArtifactError, match="the disk is full") as caught:
        put(replies, 2)
    monkeypatch.undo()
    assert "free some space" in caught.value.hint
    assert replies.get(key) == completion()
    assert (len(replies), replies.n_damaged) == (1, 0)


def test_threads_may_share_it(replies: Replies) -> None:
    def write(start: int) -> None:
        for number in range(start, start + 50):
            put(replies, number)

    threads = [threading.Thread(target=write, args=(start,)) for start in (0, 25, 50, 75)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replies) == 125


WRITE = """
import sys
from pathlib import Path
from factory.teacher.replies import Exchange, Replies
replies = Replies(Path(sys.argv[1]))
for n in range(300):
    exchange = Exchange("e", {"n": n}, 0, {"choices": [sys.argv[2]]}, 0.1)
    replies.put(exchange.key, exchange)
    assert replies.get(exchange.key) is not None
    if n == 150 and sys.argv[2] == "b":
        replies.prune([key.hex() for key in replies._lines])
"""


def test_processes_may_make_fill_and_prune_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "replies.log"
    processes = [subprocess.Popen([sys.executable, "-c", WRITE, str(path), name]) for name in "abc"]
    assert [process.wait() for process in processes] == [0, 0, 0]
    replies = Replies(path)
    assert (len(replies), replies.n_damaged) == (300, 0)
    replies.close()


def test_pruning_keeps_what_it_is_told_and_readers_follow(replies: Replies) -> None:
    keys = [put(replies, number) for number in range(5)]
    reader = Replies(replies.path)
    assert len(reader) == 5
    assert replies.prune(keys[1:3]) == 3
    assert [reader.get(key) is not None for key in keys] == [False, True, True, False, False]
    assert [one.key for one in replies.exchanges()] == keys[1:3]
    reader.close()


def test_lines_that_change_places_while_the_file_is_open_are_not_mistaken_for_each_other(replies: Replies) -> None:
    keys = [put(replies, number, f"answer {number}") for number in range(9)]
    lines = replies.path.read_bytes().splitlines(keepends=True)
    assert len({len(line) for line in lines}) == 1
    with replies.path.open("r+b") as file:
        file.write(b"".join(reversed(lines)))
    assert [replies.get(key) for key in keys] == [completion(f"answer {number}") for number in range(9)]
    assert replies.n_damaged == 0


def test_a_letter_that_changes_while_the_file_is_open_is_noticed(replies: Replies) -> None:
    keys = [put(replies, number, "a word") for number in range(3)]
    content = replies.path.read_bytes()
    with replies.path.open("r+b") as file:
        file.write(content.replace(b"a word", b"a sord", 1))
    assert [replies.get(key) is not None for key in keys] == [False, True, True]
    assert replies.n_damaged == 1


def test_damage_to_a_key_is_noticed(replies: Replies) -> None:
    keys = [put(replies, number) for number in range(3)]
    content = bytearray(replies.path.read_bytes())
    place = len(content) // 3
    content[place] = ord("1") if content[place] == ord("0") else ord("0")
    replies.path.write_bytes(bytes(content))
    again = Replies(replies.path)
    assert [again.get(key) is not None for key in keys] == [True, False, True]
    assert (len(again), again.n_damaged) == (2, 1)
    again.close()


def line_of_before(number: int, key: str | None = None) -> bytes:
    """Return a line as it was written when the checksum did not cover the key."""
    one = exchange(number)
    content = {"endpoint": "e", "payload": one.payload, "sample": 0, "reply": one.reply, "seconds": 1.5}
    text = json.dumps(content).encode()
    return b"%s %08x %s\n" % ((key or one.key).encode(), zlib.crc32(text), text)


def test_a_store_of_before_is_read_and_its_keys_are_checked(replies: Replies) -> None:
    replies.path.parent.mkdir()
    replies.path.write_bytes(line_of_before(1) + line_of_before(2, key="0" * 64) + line_of_before(3))
    assert [replies.get(exchange(number).key) is not None for number in (1, 2, 3)] == [True, False, True]
    assert (len(replies), replies.n_damaged) == (2, 1)


@pytest.mark.parametrize("how", ["zeroed", "one line, damaged", "every line damaged"])
def test_a_store_without_a_whole_line_is_moved_aside_and_the_work_goes_on(replies: Replies, how: str) -> None:
    for number in range(1 if how.startswith("one") else 5):
        put(replies, number)
    replies.close()
    content = replies.path.read_bytes()
    damaged = b"z" + content[1:].replace(b'"seconds"', b'"sekonds"') if how != "zeroed" else bytes(len(content))
    replies.path.write_bytes(damaged)
    warnings: list[Event] = []
    with listening(warnings.append):
        assert replies.get(exchange(1).key) is None
    assert any("replies.log.damaged-1" in str(event) for event in warnings)
    key = put(replies, 1)
    assert Replies(replies.path).get(key) == completion()
    assert replies.path.with_name("replies.log.damaged-1").read_bytes() == damaged


def test_a_line_of_a_newer_version_is_read_as_far_as_it_is_known(replies: Replies) -> None:
    put(replies, 1)
    one = exchange(2)
    text = json.dumps({**asdict(one), "mood": "good"}).encode()
    checksum = zlib.crc32(one.key.encode(), zlib.crc32(text))
    with replies.path.open("ab") as file:
        file.write(b"%s %08x %s\n" % (one.key.encode(), checksum, text))
    assert replies.get(one.key) == completion()
    assert len(list(replies.exchanges())) == 2


def test_half_an_emoji_in_a_question_does_not_change_its_key(replies: Replies) -> None:
    asked = Exchange("e", {"asked": "hi \ud83d"}, 0, completion(), 0.0)
    replies.put(asked.key, asked)
    assert [one.key for one in replies.exchanges()] == [asked.key]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.text() | st.integers() | st.none()))
def test_any_json_reply_survives(replies: Replies, raw: dict[str, Any]) -> None:
    asked = Exchange("e", {"asked": raw}, 0, raw, 0.0)
    replies.put(asked.key, asked)
    stored = replies.get(asked.key)
    assert stored is not None
    clean = {
        name: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
        for name, value in raw.items()
    }
    assert stored == clean
