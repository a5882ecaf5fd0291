"""What templates do about thoughts, and what tokenizers lose."""

import pytest
from tokenizers import normalizers

from support.tiny import tokenizer
from understudy.tokens.template import Template
from understudy.tokens.template_checks import lost, thinking

TURNS = (
    "{% for m in messages %}[{{ m['role'] }}] {% if m['role'] == 'user' %}{{ m['content'] }}"
    "{% else %}ANSWER{{ eos_token }}{% endif %}{% endfor %}"
)
PLAIN = TURNS.replace("ANSWER", "{{ m['content'] }}")
ASK = "{% if add_generation_prompt %}[assistant] END{% endif %}"


def told(template: str):
    made = tokenizer()
    made.chat_template = template
    return thinking(Template(made))


@pytest.mark.parametrize(
    ("end", "prompt", "switch"),
    [
        ("", "no", False),
        ("<think>\n", "open", False),
        ("(begin with <think>) ", "no", False),
        ("<think>\n\n</think>\n\n", "closed", False),
        ("{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}", "closed", True),
        ("{% if enable_thinking %}<think>\n{% endif %}", "no", True),
    ],
)
def test_what_is_put_before_the_answer(end, prompt, switch):
    found = told(PLAIN + ASK.replace("END", end))
    assert (found.prompt, found.switch, found.strips, found.answer) == (prompt, switch, False, False)


def test_thoughts_that_are_stripped_or_inserted():
    stripping = TURNS.replace("ANSWER", "{{ m['content'].split('</think>')[-1] }}") + ASK.replace("END", "")
    assert told(stripping).strips
    assert told(stripping).text == "strips thoughts from answers"
    inserting = TURNS.replace("ANSWER", "<think></think>{{ m['content'] }}") + ASK.replace("END", "")
    assert told(inserting).answer
    assert told(inserting).text == "inserts a thought into given answers"
    assert told(PLAIN).text == "none"


def test_a_byte_level_tokenizer_loses_nothing():
    assert lost(Template(tokenizer())) == []


def test_a_normaliser_is_found_out():
    made = tokenizer()
    made._tokenizer.normalizer = normalizers.Lowercase()
    assert "capitals" in lost(Template(made))
    made._tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    assert "accents" in lost(Template(made))
    made._tokenizer.normalizer = normalizers.NFKC()
    assert lost(Template(made)) == ["wide forms"]
