"""The final answer behind a mark of a solution."""

from __future__ import annotations

import pytest

from understudy.errors import ConfigError
from understudy.evaluation.final_answers import MARKS, final_answers


@pytest.mark.parametrize(
    ("marks", "text", "answer"),
    [
        (["####"], "She makes 9 * 2 = $<<9*2=18>>18.\n#### 18", "18"),
        (["####"], "first #### 3, no:\n#### 1,800\n", "1,800"),
        (["####"], "18", None),
        (["####"], "so ####", None),
        (["####"], "####\n\n18 eggs\nand more", "18 eggs"),
        (["A:"], "Q: How many?\nA: 18", "18"),
        (["A:"], "Nine and nine. A: 18", "18"),
        (["A:"], "the ABA: 18", None),
        (["A:"], "Option A: Rome", None),
        (["a:"], "**A:** 18.", "18"),
        (["Answer:"], "Final answer: **18**", "18"),
        (["Answer:"], "**Answer:** 18 dollars.", "18 dollars"),
        (["Answer:"], "**Answer**: $18$", "18"),
        (["the answer is"], "So the answer is 18. Next question: the sum", "18"),
        (["The answer is"], "The final answer is: 3.5 GHz.", "3.5 GHz"),
        (["The answer is"], "The answer is Dr. Who", "Dr. Who"),
        (["The answer is"], "Answer: 18", None),
        (["boxed"], r"hence $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        ([r"\boxed{}"], r"\boxed{1} or \boxed{ 2 }", "2"),
        ([r"\boxed"], r"cut short: \boxed{\frac{1}{2}", None),
        (["all"], r"The answer is $\boxed{18}$.", "18"),
        (["all"], "The answer is 17.\n#### 18", "18"),
        (["####", "Answer:"], "#### 17\nAnswer: 18", "18"),
        (["Lösung ="], "Lösung = 18", "18"),
        (["(x)"], "(x) 18", "18"),
        (["####"], "", None),
    ],
)
def test_final_answers(marks: list[str], text: str, answer: str | None) -> None:
    assert final_answers(marks)(text) == answer


def test_each_known_mark_is_found_by_its_own_name() -> None:
    for name in MARKS:
        text = "thus " + name.replace("{}", "{18}") if "{}" in name else f"thus\n{name} 18"
        assert final_answers([name])(text) == "18", name


@pytest.mark.parametrize("mark", ["", " "])
def test_an_empty_mark_is_refused(mark: str) -> None:
    with pytest.raises(ConfigError, match="is empty"):
        final_answers([mark])
