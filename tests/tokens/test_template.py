"""Where the prompt ends and the answer begins, for tokenizers that lack things and templates with habits."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from support.tiny import tokenizer
from understudy.errors import ModelError
from understudy.tokens.compatibility import vocabulary_difference
from understudy.tokens.template import Template

USER = [{"role": "user", "content": "Which function terminates N2?"}]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
FORGETFUL = (
    "{% for m in messages %}[{{ m.role }}]{% if loop.last %} now{% endif %} {{ m.content | trim }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ m.content }}{{ eos_token }}{% endfor %}"
)


def reader(template=None, extra=(), **options):
    made = tokenizer(300, **options)
    if extra:
        made.add_special_tokens({"additional_special_tokens": list(extra)})
    made.chat_template = template
    return made


def chatml(template=CHATML):
    return Template(reader(template, ("<|im_start|>", "<|im_end|>")))


def test_a_plain_tokenizer_gets_a_plain_template():
    template = Template(reader())
    assert template.prompt(USER) == "<s>Question: Which function terminates N2?\nAnswer:"
    encoded = template.encode(USER, "AMF")
    assert template.tokenizer.decode(encoded.ids) == "<s>Question: Which function terminates N2?\nAnswer: AMF</s>"
    assert template.tokenizer.decode(encoded.answer_ids) == " AMF</s>"
    assert template.stop_ids == (template.tokenizer.eos_token_id,)
    assert any("no chat template" in note for note in template.notes)


def test_system_and_earlier_turns_in_the_plain_template():
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "AMF?"},
        {"role": "assistant", "content": "Access and Mobility Management Function"},
        *USER,
    ]
    text = Template(reader(bos=None)).prompt(turns)
    assert text == (
        "Be brief.\n\nQuestion: AMF?\nAnswer: Access and Mobility Management Function</s>\n"
        "Question: Which function terminates N2?\nAnswer:"
    )


def test_without_pad_the_end_token_pads():
    template = Template(reader(pad=None))
    assert template.tokenizer.pad_token_id == template.tokenizer.eos_token_id
    assert any("no pad token" in note for note in template.notes)
    assert template.encode(USER, "AMF").answer_ids[-1] == template.tokenizer.eos_token_id


def test_without_end_another_special_token_ends():
    bare = reader()
    bare.eos_token = None
    template = Template(bare)
    assert template.stop_ids == (bare.convert_tokens_to_ids("<pad>"),)
    assert any("no end token" in note for note in template.notes)
    assert template.encode(USER, "AMF").answer_ids[-1] == template.stop_ids[0]


def test_without_any_special_token_it_says_so():
    bare = reader(pad=None)
    bare.eos_token = None
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        Template(bare)


def test_a_complete_tokenizer_is_left_alone():
    assert chatml().notes == []


def test_the_end_of_turn_token_ends_an_answer_and_what_follows_is_dropped():
    template = chatml()
    encoded = template.encode(USER, "AMF")
    end = template.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert template.stop_ids == (end, template.tokenizer.eos_token_id)
    assert template.tokenizer.decode(encoded.prompt_ids).endswith("<|im_start|>assistant\n")
    assert template.tokenizer.decode(encoded.answer_ids) == "AMF<|im_end|>"


def test_a_thinking_template_thinks_nothing_on_both_sides():
    template = chatml(THINKING)
    encoded = template.encode(USER, "AMF")
    assert template.prompt(USER).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert template.tokenizer.decode(encoded.answer_ids) == "AMF<|im_end|>"
    assert encoded.prompt_ids == template.prompt_ids(USER)


def test_a_thinking_template_that_drops_its_thought_from_the_whole():
    """The rendered whole does not begin with the prompt; the answer is then tokenised by itself."""
    dropping = THINKING.replace("{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}", "")
    template = chatml(dropping)
    encoded = template.encode(USER, "AMF")
    assert encoded.prompt_ids == template.prompt_ids(USER)
    assert template.tokenizer.decode(encoded.answer_ids) == "AMF<|im_end|>"


def test_a_template_that_rewrites_the_prompt_and_marks_no_end():
    template = Template(reader(FORGETFUL))
    encoded = template.encode(USER, "AMF")
    assert template.tokenizer.decode(encoded.prompt_ids) == "[user] now Which function terminates N2?[assistant]"
    assert template.tokenizer.decode(encoded.answer_ids) == "AMF</s>"


def test_a_system_turn_that_the_template_refuses_is_named():
    template = Template(reader(NO_SYSTEM))
    assert template.prompt(USER)
    with pytest.raises(ModelError, match=r"system, user: System role not supported") as caught:
        template.prompt([{"role": "system", "content": "Be brief."}, *USER])
    assert "data.system" in caught.value.hint


def test_a_broken_template_is_named():
    with pytest.raises(ModelError, match="cannot render"):
        Template(reader("{% for m in messages %}{{ m.content }"))


def merging():
    """A vocabulary in which the prompt's last letter and the answer's first merge into one token."""
    core = Tokenizer(
        models.BPE(
            vocab={"</s>": 0, "a": 1, "b": 2, "ab": 3, ":": 4, ":b": 5},
            merges=[("a", "b"), (":", "b")],
        )
    )
    core.decoder = decoders.Fuse()
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>")
    made.chat_template = "{% for m in messages %}{{ m.content }}{% if m.role == 'user' %}:{% endif %}{% endfor %}"
    return Template(made)


def test_no_token_lies_across_the_border():
    template = merging()
    question = [{"role": "user", "content": "aba"}]
    encoded = template.encode(question, "ba")
    assert encoded.prompt_ids == template.prompt_ids(question) == [3, 1, 4]
    assert encoded.answer_ids == [2, 1, 0]
    assert template.encode(question, "ab").answer_ids == [3, 0]


def test_special_tokens_are_not_doubled():
    """The template writes the start token; the tokenizer must not add its own."""
    made = reader()
    from tokenizers.processors import TemplateProcessing

    made._tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", made.bos_token_id)]
    )
    assert made("x")["input_ids"][0] == made.bos_token_id
    assert Template(made).encode(USER, "AMF").ids.count(made.bos_token_id) == 1


# No surrogates (they are no text), and nothing that reads as one of the tokenizer's own special tokens.
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<>"), max_size=40)
PLAIN, CHAT, THINK = Template(reader()), chatml(), chatml(THINKING)


@settings(max_examples=60, deadline=None)
@given(question=text, answer=text)
@pytest.mark.parametrize("template", [PLAIN, CHAT, THINK], ids=["plain", "chatml", "thinking"])
def test_any_text_is_cut_where_generation_starts_and_comes_back(template, question, answer):
    messages = [{"role": "user", "content": question}]
    encoded = template.encode(messages, answer)
    assert encoded.prompt_ids == template.prompt_ids(messages)
    assert encoded.answer_ids[-1] == template.stop_ids[0]
    assert not set(encoded.answer_ids[:-1]) & set(template.stop_ids)
    assert template.decode(encoded.answer_ids) == answer.strip()
    assert question in template.tokenizer.decode(encoded.prompt_ids)


def test_one_vocabulary_is_one_vocabulary():
    assert vocabulary_difference(reader(), reader()) == ""


def test_another_size_is_another_vocabulary():
    said = vocabulary_difference(tokenizer(300), tokenizer(340))
    assert "student 300 tokens, teacher 340" in said


def test_equal_entries_under_other_ids_differ():
    ours, theirs = tokenizer(300), tokenizer(300, end="<pad>", pad="</s>")
    assert ours.get_vocab().keys() == theirs.get_vocab().keys()
    assert "2 under another id" in vocabulary_difference(ours, theirs)


def test_equal_entries_with_another_normaliser_differ():
    theirs = tokenizer(300)
    theirs._tokenizer.normalizer = normalizers.Lowercase()
    assert "cut differently" in vocabulary_difference(tokenizer(300), theirs)


def test_real_story_tokenizers(shared):
    folders = [shared / "models" / name for name in ("stories260k", "babyllama-char105")]
    stories, letters = (AutoTokenizer.from_pretrained(folder) for folder in folders)
    assert vocabulary_difference(stories, AutoTokenizer.from_pretrained(folders[0])) == ""
    assert "tokens" in vocabulary_difference(stories, letters)
    template = Template(stories)
    encoded = template.encode(USER, "Once upon a time")
    assert encoded.prompt_ids == template.prompt_ids(USER)
    assert template.decode(encoded.answer_ids) == "Once upon a time"
