"""Which questions are put to a feed and when, and what becomes of the answers."""

from tui.facts.asks import ANSWERS_MAX, ASK_AGAIN_S, ASKED_MAX, Answers, Questions, Wish, asking

ROUNDS = asking("runs", "r", "rounds")


def test_filters_that_are_none_are_no_part_of_a_question():
    assert asking("logs", limit=5, level=None) == asking("logs", limit=5)
    assert asking("logs", limit=5) != asking("logs", limit=6)


def test_a_wish_is_asked_once_for_each_stamp_and_each_snapshot():
    questions = Questions()
    now = 0.0

    def due(stamp, snapshots):
        asked = questions.due([Wish(ROUNDS, stamp)], snapshots, now)
        for ask in asked:
            questions.answered(ask)
        return asked

    assert due(1, 1) == [ROUNDS]
    assert due(1, 1) == []
    now += ASK_AGAIN_S
    assert due(2, 1) == [ROUNDS]
    now += ASK_AGAIN_S
    assert due(2, 2) == [ROUNDS]
    assert not questions.postponed


def test_what_changes_fast_is_asked_again_only_after_a_while_and_never_twice_at_once():
    questions = Questions()
    assert questions.due([Wish(ROUNDS, 1)], 1, 0.0) == [ROUNDS]
    assert questions.due([Wish(ROUNDS, 2)], 1, ASK_AGAIN_S * 2) == [], "the first answer is still on its way"
    assert questions.postponed
    assert questions.waiting
    questions.answered(ROUNDS)
    assert questions.due([Wish(ROUNDS, 2)], 1, ASK_AGAIN_S / 2) == []
    assert questions.postponed
    assert questions.due([Wish(ROUNDS, 2)], 1, ASK_AGAIN_S * 2) == [ROUNDS]


def test_what_nobody_remembers_any_more_is_asked_again():
    questions, answers = Questions(), Answers()
    asks = [asking("data", str(number)) for number in range(ASKED_MAX + 2)]
    for now, ask in enumerate(asks):
        assert questions.due([Wish(ask)], 1, now * ASK_AGAIN_S, answers.remembers) == [ask]
        assert questions.due([Wish(ask)], 1, now * ASK_AGAIN_S, answers.remembers) == [], "it is on its way"
        (answers.fail(ask, "no") if now % 2 else answers.take(ask, {"now": now}))
        questions.answered(ask)
    later = len(asks) * ASK_AGAIN_S
    assert questions.due([Wish(ask) for ask in asks[-2:]], 1, later, answers.remembers) == []
    assert questions.due([Wish(asks[0])], 1, later, answers.remembers) == [asks[0]]
    assert len(questions._asked) <= ASKED_MAX


def test_an_answer_is_worked_out_once_and_anew_when_another_came():
    answers, calls = Answers(), []

    def count(answer):
        calls.append(answer)
        return len(answer.get("rounds", ()))

    assert answers.read(ROUNDS, count) == 0
    answers.take(ROUNDS, {"rounds": [1, 2]})
    assert [answers.read(ROUNDS, count) for _ in range(3)] == [2, 2, 2]
    answers.take(ROUNDS, {"rounds": [1, 2, 3]})
    assert answers.read(ROUNDS, count) == 3
    assert len(calls) == 3


def test_a_failed_question_keeps_the_older_answer_and_says_why():
    answers = Answers()
    answers.take(ROUNDS, {"rounds": [1]})
    answers.fail(ROUNDS, "the node is not answering")
    assert answers.get(ROUNDS) == {"rounds": [1]}
    assert answers.trouble(ROUNDS) == "the node is not answering"
    answers.take(ROUNDS, {"rounds": []})
    assert answers.trouble(ROUNDS) == ""


def test_of_too_many_answers_those_unused_for_longest_go():
    answers = Answers()
    for number in range(ANSWERS_MAX):
        answers.take(asking("runs", str(number)), {"n": number})
    assert answers.get(asking("runs", "0")) == {"n": 0}
    answers.take(ROUNDS, {})
    assert answers.known(asking("runs", "0"))
    assert not answers.known(asking("runs", "1"))
