"""When processes that train together ask each other."""

import keras
import pytest

from keras_ldm.callbacks import agreement
from keras_ldm.callbacks.agreement import Agreement


def test_a_process_alone_has_its_own_answer_at_once() -> None:
    alone = Agreement(keras.Model())
    assert [alone.after(1, [number, 0]) for number in (0, 15)] == [[0, 0], [15, 0]]
    assert alone.now([2]) == [2]


def test_questions_are_a_few_seconds_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of a second a batch: after the first, every 20th; what is due in between waits."""
    now = [0.0]
    asked: list[list[int]] = []

    def largest(model: keras.Model, numbers: list[int]) -> list[int]:
        asked.append(numbers)
        return [max(number, 1) for number in numbers]  # another process says 1

    monkeypatch.setattr(agreement, "num_processes", lambda model: 2)
    monkeypatch.setattr(agreement, "largest_over_processes", largest)
    monkeypatch.setattr(agreement.time, "monotonic", lambda: now[0])
    several = Agreement(keras.Model())
    answers = []
    for batch in range(1, 61):
        now[0] += 0.25
        answers.append((batch, several.after(1, [batch % 2])))
    assert [batch for batch, answer in answers if answer != [0]] == [1, 21, 41]
    assert [numbers[-1] for numbers in asked] == [20, 20, 20]  # batches to the next question
    assert several.now([0]) == [1]


def test_slow_batches_are_asked_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(agreement, "num_processes", lambda model: 2)
    monkeypatch.setattr(agreement, "largest_over_processes", lambda model, numbers: list(numbers))
    monkeypatch.setattr(agreement.time, "monotonic", lambda: now[0])
    several = Agreement(keras.Model())
    for _ in range(4):
        now[0] += 60.0
        assert several.after(1, [7]) == [7]
