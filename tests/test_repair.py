"""An answer that cannot be used is asked for once more, and never a third time."""

import pytest

from factory.teacher import Abstain, Message, Reply, Request, ScriptedTeacher
from factory.teacher.repair import WHY, Answered, ask_and_read

QUESTION = Request((Message("user", "a number?"),), max_tokens=4)


def number_in(reply: Reply) -> int | Abstain:
    if reply.finish_reason == "length":
        return Abstain("truncated", reply.text)
    return int(reply.text) if reply.text.isdigit() else Abstain("unparseable", reply.text)


def asked(*said: str | Reply | Abstain) -> tuple[int | Abstain, ScriptedTeacher]:
    teacher = ScriptedTeacher(said)
    (answered,) = ask_and_read(teacher, [QUESTION], number_in, most_tokens=64)
    return answered.answer, teacher


def test_an_answer_that_can_be_read_is_not_asked_for_again() -> None:
    answer, teacher = asked("7")
    assert (answer, len(teacher.history)) == (7, 1)


def test_the_teacher_is_shown_what_it_said_and_what_is_wrong_with_it() -> None:
    answer, teacher = asked("seven", "7")
    assert answer == 7
    assert [(message.role, message.content) for message in teacher.history[1].messages[1:]] == [
        ("assistant", "seven"),
        (
            "user",
            "That cannot be used: it is not in that form. Answer once more, in exactly the form that was asked for.",
        ),
    ]


def test_an_answer_that_was_cut_off_gets_more_room_and_no_complaint() -> None:
    answer, teacher = asked(Reply("12", "length", 1, 4), "123456")
    assert answer == 123456
    assert [(one.messages, one.max_tokens) for one in teacher.history] == [(QUESTION.messages, n) for n in (4, 64)]


@pytest.mark.parametrize("reason", sorted(WHY))
def test_after_the_second_failure_the_row_abstains(reason: str) -> None:
    answer, teacher = asked(Abstain(reason, "no"), Abstain(reason, "never"))
    assert answer == Abstain(reason, "never")
    assert len(teacher.history) == 2


def test_what_asking_again_cannot_mend_is_left() -> None:
    answer, teacher = asked(Abstain("bad-request", "too long"))
    assert (answer, len(teacher.history)) == (Abstain("bad-request", "too long"), 1)


def test_repairs_belong_to_their_own_rows_and_are_told_by_position() -> None:
    said = {"0": "x", "1": "1", "2": "y", "3": "3"}
    told: list[int] = []

    def answer(request: Request) -> str:
        first = said[request.messages[0].content]
        return first if len(request.messages) == 1 else str(10 + int(request.messages[0].content))

    requests = [Request((Message("user", number),), max_tokens=4) for number in said]
    answers = ask_and_read(
        ScriptedTeacher(answer), requests, number_in, most_tokens=4, on_reply=lambda n, _: told.append(n)
    )
    assert answers == [Answered(10, answers[0].replies), Answered(1, answers[1].replies), *answers[2:]]
    assert [one.answer for one in answers] == [10, 1, 12, 3]
    assert [len(one.replies) for one in answers] == [2, 1, 2, 1]
    assert told == [0, 1, 2, 3, 0, 2]
