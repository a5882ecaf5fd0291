"""What an encoder reads and a decoder writes: the tokenizer's own frames, and batches with decoder inputs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.tiny_seq2seq import framed_bytes, template, unigram
from understudy.tokens.collate import Collator, EncodedRow, short_inputs
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.seq2seq_template import Seq2SeqTemplate

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Which function terminates N2?"},
    {"role": "assistant", "content": "AMF"},
    {"role": "user", "content": "And N4?"},
]
PLAIN = "Be brief.\n\nWhich function terminates N2?\n\nAMF\n\nAnd N4?"
TEMPLATES = {kind: template(kind) for kind in ("t5", "bart")}


@pytest.mark.parametrize("kind", TEMPLATES)
def test_the_encoder_reads_the_turns_without_markup(kind):
    made = TEMPLATES[kind]
    assert made.prompt(TURNS) == PLAIN
    assert made.prompt_ids(TURNS) == made.tokenizer(PLAIN)["input_ids"]
    assert made.notes == ["the tokenizer has no chat template: the encoder reads the turns as they are"]


def test_the_end_token_is_the_tokenizers_own_and_what_opens_an_answer_is_given():
    for kind, start in (("t5", ["<pad>"]), ("bart", ["</s>", "<s>"])):
        made = TEMPLATES[kind]
        row = made.encode(TURNS, "the SMF")
        assert made.tokenizer.convert_ids_to_tokens(row.start) == start
        assert made.tokenizer.convert_ids_to_tokens(row.answer_ids[-1]) == "</s>"
        assert made.stop_ids == (made.tokenizer.eos_token_id,)
        # The decoder's whole text is start token, then what the tokenizer makes of a target.
        assert [*row.start[1:], *row.answer_ids] == made.tokenizer(text_target="the SMF")["input_ids"]
        assert made.decode(row.answer_ids) == "the SMF"


def test_a_tokenizer_that_adds_nothing_still_ends_its_answers():
    bare = unigram()
    bare.backend_tokenizer.post_processor = framed_bytes().backend_tokenizer.post_processor.__class__(
        single="$A", special_tokens=[]
    )
    made = Seq2SeqTemplate(bare)
    row = made.encode(TURNS[-1:], "the SMF")
    assert row.answer_ids[-1] == bare.eos_token_id
    assert row.prompt_ids[-1] != bare.eos_token_id
    assert row.start == (bare.pad_token_id,)


def test_a_chat_template_is_used_and_its_end_token_is_not_doubled():
    chat = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
    for end in ("", "{{ eos_token }}"):
        reader = unigram()
        reader.chat_template = chat + end
        ids = Seq2SeqTemplate(reader).prompt_ids(TURNS[-1:])
        assert ids == reader("[user] And N4?")["input_ids"]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40), st.sampled_from(sorted(TEMPLATES)))
def test_any_answer_is_cut_as_the_tokenizer_cuts_it(text, kind):
    made = TEMPLATES[kind]
    row = made.encode(TURNS, text, token_ends=True)
    assert row.answer_ids == made.tokenizer(text_target=text, add_special_tokens=False)["input_ids"] + [made.end_id]
    assert row == made.encode(TURNS, text) or row.token_ends
    if row.token_ends:
        length = len(text.strip().encode())
        assert len(row.token_ends) == len(row.answer_ids) + 1
        assert row.token_ends[-1] == length + 1
        known = [cut for cut in row.token_ends if cut > -(10**9)]
        assert known == sorted(known)
        assert row.answer_prefix == text[: len(row.answer_prefix)]


def row_of(source, target, num_forced=0, start=(0,)):
    return TokenizedExample(source, target, num_forced=num_forced, start=start)


def test_a_batch_by_hand():
    rows = [
        EncodedRow("a", row_of([7, 8, 9, 1], [4, 5, 1]), None, True),
        EncodedRow("b", row_of([6, 1], [3, 2, 4, 4, 1], num_forced=2), None, True),
    ]
    tokens = Collator(0)(rows)["student"]
    expected = {
        "input_ids": [[7, 8, 9, 1], [6, 1, 0, 0]],
        "attention_mask": [[1, 1, 1, 1], [1, 1, 0, 0]],
        "decoder_input_ids": [[0, 4, 5, 0, 0], [0, 3, 2, 4, 4]],
        "decoder_attention_mask": [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]],
    }
    assert {name: value.tolist() for name, value in tokens["inputs"].items()} == expected
    assert tokens["target_mask"].tolist() == [[True, True, True, False, False], [False, False, True, True, True]]
    assert tokens["target_ids"].tolist() == [4, 5, 1, 4, 4, 1]


def test_what_opens_an_answer_is_read_and_not_learned():
    tokens = Collator(1)([EncodedRow("a", row_of([2, 9, 0], [4, 5, 0], start=(0, 2)), None, True)])["student"]
    assert tokens["inputs"]["decoder_input_ids"].tolist() == [[0, 2, 4, 5]]
    assert tokens["target_mask"].tolist() == [[False, True, True, True]]
    assert tokens["target_ids"].tolist() == [4, 5, 0]


def test_a_causal_teacher_with_the_same_ids_does_not_read_the_students_batch():
    mine, theirs = row_of([7, 8], [4, 1]), TokenizedExample([7, 8], [4, 1])
    batch = Collator(0, 0)([EncodedRow("a", mine, theirs, True)])
    assert batch["teacher"] is not batch["student"]
    assert set(batch["teacher"]["inputs"]) == {"input_ids", "attention_mask"}
    same = Collator(0, 0)([EncodedRow("a", mine, row_of([7, 8], [4, 1]), True)])
    assert same["teacher"] is same["student"]


def test_first_tokens_keep_their_start():
    row = row_of([1], [2, 3, 4], num_forced=2).first(1)
    assert (row.answer_ids, row.num_forced, row.start) == ([2], 1, (0,))
    assert torch.equal(short_inputs(row_of([1], [2, 3]))["decoder_input_ids"], torch.tensor([[0, 2]]))
