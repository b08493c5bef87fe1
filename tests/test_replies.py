import resource
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.errors import ArtifactCorrupt, ArtifactError
from factory.teacher.replies import Replies, key_of
from tests.fault_server import completion


@pytest.fixture
def replies(tmp_path: Path) -> Any:
    cache = Replies(tmp_path / "outputs" / "replies.sqlite")
    yield cache
    cache.close()


def test_a_reply_comes_back_as_it_came(replies: Replies) -> None:
    raw = completion('line\u2028 "quoted" 日本 \x00 end')
    replies.put("k", raw, seconds=1.5)
    assert replies.get("k") == raw
    assert replies.get("other") is None
    assert len(replies) == 1


def test_replies_outlive_the_object(replies: Replies) -> None:
    replies.put("k", completion(), seconds=0.1)
    replies.close()
    again = Replies(replies.path)
    assert again.get("k") == completion()
    again.close()
    again.close()


def test_the_first_reply_under_a_key_stays(replies: Replies) -> None:
    replies.put("k", completion("first"), seconds=0.1)
    replies.put("k", completion("second"), seconds=0.1)
    assert replies.get("k") == completion("first")


def test_no_file_is_made_before_the_first_use(tmp_path: Path) -> None:
    Replies(tmp_path / "outputs" / "replies.sqlite")
    assert not (tmp_path / "outputs").exists()


def test_usage_and_time_can_be_read_with_sqlite(replies: Replies) -> None:
    replies.put("k", completion(), seconds=1.5)
    with sqlite3.connect(replies.path) as connection:
        row = connection.execute("SELECT prompt_tokens, completion_tokens, seconds FROM replies").fetchone()
    connection.close()
    assert row == (10, 5, 1.5)


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


def test_a_file_that_is_no_database_is_refused_and_left_alone(replies: Replies) -> None:
    replies.path.parent.mkdir()
    replies.path.write_bytes(b"precious, but no database" * 100)
    with pytest.raises(ArtifactCorrupt, match=r"replies\.sqlite: the reply cache is damaged") as caught:
        replies.get("k")
    assert "move the file away" in caught.value.hint
    assert replies.path.read_bytes() == b"precious, but no database" * 100


def test_a_truncated_file_is_an_error_and_not_an_empty_cache(replies: Replies) -> None:
    for number in range(200):
        replies.put(str(number), completion("x" * 500), seconds=0.1)
    replies.close()
    with replies.path.open("r+b") as file:
        file.truncate(8192)
    with pytest.raises(ArtifactCorrupt, match="damaged"):
        for number in range(200):
            replies.get(str(number))


def test_a_reply_that_somebody_edited_into_nonsense_is_an_error(replies: Replies) -> None:
    replies.put("k", completion(), seconds=0.1)
    with sqlite3.connect(replies.path) as connection:
        connection.execute("UPDATE replies SET reply = '{'")
    connection.close()
    with pytest.raises(ArtifactCorrupt, match="reply k is not JSON"):
        replies.get("k")


def test_a_file_of_another_format_is_refused_each_time(replies: Replies) -> None:
    replies.put("k", completion(), seconds=0.1)
    replies.close()
    with sqlite3.connect(replies.path) as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    for _ in range(2):
        with pytest.raises(ArtifactError, match="format 7, expected 1"):
            replies.get("k")


FILL_UP = """
import sys
from pathlib import Path
from factory.errors import ArtifactError
from factory.teacher.replies import Replies
replies = Replies(Path(sys.argv[1]))
n = 0
try:
    while n < 5000:
        replies.put(str(n), {"choices": ["x" * 1000]}, seconds=0.1)
        n += 1
except ArtifactError as error:
    print(n, error, error.hint)
"""


def test_a_write_that_fails_is_a_clear_error_and_loses_nothing_stored(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
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
    replies.close()


def test_a_full_disk_is_named_as_such(replies: Replies) -> None:
    replies.put("k", completion(), seconds=0.1)
    # SQLite reports a full database exactly as it reports ENOSPC.
    with replies._using() as connection:
        connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(ArtifactError, match="the disk is full") as caught:
        for number in range(100):
            replies.put(str(number), completion("x" * 500), seconds=0.1)
    assert "free some space" in caught.value.hint
    assert replies.get("k") == completion()


def test_threads_may_share_it(replies: Replies) -> None:
    def write(start: int) -> None:
        for number in range(start, start + 50):
            replies.put(str(number), completion(), seconds=0.1)

    threads = [threading.Thread(target=write, args=(start,)) for start in (0, 25, 50, 75)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replies) == 125


WRITE = """
import sys
from pathlib import Path
from factory.teacher.replies import Replies
replies = Replies(Path(sys.argv[1]))
for number in range(300):
    replies.put(str(number), {"choices": [sys.argv[2]]}, seconds=0.1)
    assert replies.get(str(number)) is not None
"""


def test_two_processes_may_make_and_fill_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    processes = [subprocess.Popen([sys.executable, "-c", WRITE, str(path), name]) for name in "ab"]
    assert [process.wait() for process in processes] == [0, 0]
    replies = Replies(path)
    assert len(replies) == 300
    replies.close()


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_any_json_reply_survives(raw: dict[str, Any]) -> None:
    replies = Replies(Path(":memory:"))
    replies.put("k", raw, seconds=0.0)
    assert replies.get("k") == raw
    replies.close()
