"""The shift and the mask, seen from outside: what is learned, and that nothing else ever is."""

import dataclasses

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from support.tiny import DATA, examples, llama, tokenizer
from understudy.errors import DataError, ModelError
from understudy.models.forward import forward
from understudy.recipe import DataConfig
from understudy.tokens.collate import Collator, EncodedRow, ExampleTokenizer, encode_rows, move
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.template import Template
from understudy.types import Example


def row(name, prompt, answer, teacher=None, gold=True):
    return EncodedRow(name, TokenizedExample(prompt, answer), TokenizedExample(*teacher) if teacher else None, gold)


def test_the_shift_on_a_row_worked_by_hand():
    batch = Collator(0)([row("a", [11, 12, 13], [21, 22, 2]), row("b", [14], [23, 2], gold=False)])
    tokens = batch["student"]
    assert tokens["inputs"]["input_ids"].tolist() == [[11, 12, 13, 21, 22], [14, 23, 0, 0, 0]]
    assert tokens["inputs"]["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]
    assert tokens["target_mask"].int().tolist() == [[0, 0, 1, 1, 1], [1, 1, 0, 0, 0]]
    assert tokens["target_ids"].tolist() == [21, 22, 2, 23, 2]
    assert batch["gold_rows"].tolist() == [True, False]
    assert batch["ids"] == ["a", "b"]
    assert "teacher" not in batch


def test_teachers_tokens_are_the_students_own_where_equal():
    same = [row("a", [11, 12], [21, 2], ([11, 12], [21, 2])), row("b", [14], [2], ([14], [2]))]
    batch = Collator(0, 9)(same)
    assert batch["teacher"] is batch["student"]
    moved = move(batch, torch.device("cpu"))
    assert moved["teacher"] is moved["student"]
    assert moved["ids"] == ["a", "b"]


def test_one_differing_prompt_parts_the_two():
    rows = [row("a", [11, 12], [21, 2], ([7, 11, 12], [21, 2])), row("b", [14], [2], ([14], [2]))]
    batch = Collator(0, 9)(rows)
    assert batch["teacher"]["inputs"]["input_ids"].tolist() == [[7, 11, 12, 21], [14, 9, 9, 9]]
    assert torch.equal(batch["teacher"]["target_ids"], batch["student"]["target_ids"])
    assert batch["teacher"]["target_mask"].sum(1).tolist() == batch["student"]["target_mask"].sum(1).tolist()


def test_answers_that_end_differently_are_named():
    rows = [row("a", [11], [21, 2], ([11], [21, 3]))]
    with pytest.raises(ModelError, match="cut the same answer into different tokens") as caught:
        Collator(0, 0)(rows)
    assert "chat_template" in caught.value.hint
    assert Collator(0, 0, same_targets=False)(rows)["teacher"]["target_ids"].tolist() == [21, 3]


def test_templates_that_end_differently_are_named():
    ours, theirs = Template(tokenizer(300)), tokenizer(300)
    theirs.chat_template = "{% for m in messages %}{{ m.role }} {{ m.content }}<pad>{% endfor %}"
    rows = encode_rows(examples(3), ExampleTokenizer(ours, DATA), ExampleTokenizer(Template(theirs), DATA))
    with pytest.raises(ModelError, match="different tokens"):
        Collator(0, 0)(rows)


@pytest.fixture
def rows(template):
    return encode_rows(examples(), ExampleTokenizer(template, DATA))


def summed_loss(model, batch):
    """Σ −log p over target tokens, in plain torch, from the model's own logits."""
    tokens = batch["student"]
    output = forward(model, tokens)
    return torch.nn.functional.cross_entropy(output.head.logits(output.hidden), tokens["target_ids"], reduction="sum")


def test_the_loss_is_that_of_labels(model, rows):
    """transformers shifts labels itself; its mean times its count must be our sum."""
    batch = Collator(0)(rows)
    width = max(len(r.student.ids) for r in rows)
    ids, labels = torch.zeros(len(rows), width, dtype=torch.long), torch.full((len(rows), width), -100)
    mask = torch.zeros_like(ids)
    for place, r in enumerate(rows):
        end, start = len(r.student.ids), len(r.student.prompt_ids)
        ids[place, :end] = torch.tensor(r.student.ids)
        labels[place, start:end] = torch.tensor(r.student.answer_ids)
        mask[place, :end] = 1
    count = (labels != -100).sum()
    expected = model(input_ids=ids, attention_mask=mask, labels=labels).loss * count
    found = summed_loss(model, batch)
    assert len(batch["student"]["target_ids"]) == count
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    parameters = list(model.parameters())
    ours = torch.autograd.grad(found, parameters)
    for one, other in zip(ours, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_padding_changes_nothing(model, rows):
    """Neither which token pads nor how far."""
    parameters = list(model.parameters())

    def of(rows, pad):
        loss = summed_loss(model, Collator(pad)(rows))
        return loss, torch.autograd.grad(loss, parameters)

    loss, gradients = of(rows[:2], 0)
    for pad, companion in [(7, []), (0, rows[2:3]), (250, rows[5:6])]:
        longer = TokenizedExample([5] * 40, [6])
        extra = [*companion, EncodedRow("long", longer, None, True)]
        with_extra, extra_gradients = of([*rows[:2], *extra], pad)
        alone, alone_gradients = of(extra, 0)
        torch.testing.assert_close(with_extra, loss + alone, rtol=1e-5, atol=1e-4)
        for one, two, both in zip(gradients, alone_gradients, extra_gradients, strict=True):
            torch.testing.assert_close(both, one + two, rtol=1e-3, atol=1e-4)


def test_prompt_tokens_are_read_and_never_learned(rows):
    """With head and embedding apart, the head's gradient at a token is softmax mass unless it is a target."""
    model = llama(300, tied=False)
    batch = Collator(0)(rows)
    summed_loss(model, batch).backward()
    output = forward(model, batch["student"])
    with torch.no_grad():
        soft = output.head.logits(output.hidden).softmax(-1)
        pushed = soft.t() @ output.hidden
        pulled = torch.zeros_like(pushed).index_add_(0, output.target_ids, output.hidden)
    torch.testing.assert_close(model.lm_head.weight.grad, pushed - pulled, rtol=1e-3, atol=1e-4)
    read = set(batch["student"]["inputs"]["input_ids"][batch["student"]["inputs"]["attention_mask"].bool()].tolist())
    touched = set(model.model.embed_tokens.weight.grad.abs().sum(1).nonzero()[:, 0].tolist())
    assert touched == read


def test_the_stop_token_is_learned(template, rows):
    assert all(r.student.answer_ids[-1] == template.stop_ids[0] for r in rows)
    batch = Collator(0)(rows)
    ends = torch.tensor(batch["student"]["target_mask"].sum(1).tolist()).cumsum(0) - 1
    assert (batch["student"]["target_ids"][ends] == template.stop_ids[0]).all()


def test_training_reads_the_prompt_that_generation_starts_from(template):
    encoder = ExampleTokenizer(template, DATA)
    for example in examples():
        assert encoder.encode(example).prompt_ids == encoder.prompt_ids(example)
        assert template.tokenizer.decode(encoder.prompt_ids(example)) == encoder.prompt_text(example)


def test_origin_says_whether_a_row_is_gold(rows):
    assert [r.gold for r in rows] == [e.origin == "gold" for e in examples()]
    assert {r.gold for r in rows} == {True, False}


CONTEXT = " ".join(f"Sentence {n} tells of function number {n}." for n in range(60)) + " The AMF terminates N2."


@pytest.mark.parametrize("overflow", ["window", "truncate"])
def test_a_context_too_long_is_cut_and_counted(template, overflow):
    data = DataConfig(max_length=120, max_answer_tokens=20, context_overflow=overflow)
    encoder = ExampleTokenizer(template, data)
    long = Example("long", "Which function terminates N2?", ("AMF",), context=CONTEXT)
    short = dataclasses.replace(long, context="N2 ends at the AMF.")
    encoded = encoder.encode(long)
    assert len(encoded.prompt_ids) <= 100
    assert encoder.notes == {f"contexts reduced ({overflow})": 1}
    encoder.encode(short)
    assert sum(encoder.notes.values()) == 1
    text = template.tokenizer.decode(encoded.prompt_ids)
    assert "Which function terminates N2?" in text
    assert ("AMF terminates N2" in text) == (overflow == "window")


def test_a_context_too_long_is_refused_if_asked(template):
    encoder = ExampleTokenizer(template, DataConfig(max_length=120, max_answer_tokens=20, context_overflow="refuse"))
    with pytest.raises(DataError, match="long"):
        encoder.encode(Example("long", "Which function terminates N2?", ("AMF",), context=CONTEXT))


def test_a_question_too_long_is_refused(template):
    encoder = ExampleTokenizer(template, DataConfig(max_length=60, max_answer_tokens=20))
    with pytest.raises(DataError, match=r"row-7: the question takes \d+ tokens, and 40 are left"):
        encoder.encode(Example("row-7", "Which? " * 60, ("AMF",)))


def test_an_answer_too_long_is_cut_and_counted(template):
    encoder = ExampleTokenizer(template, DataConfig(max_length=96, max_answer_tokens=5))
    encoded = encoder.encode(Example("a", "Why?", ("Because of this and that and more",)))
    assert len(encoded.answer_ids) == 5
    assert encoded.answer_ids[-1] not in template.stop_ids
    assert encoder.notes == {"answers cut at max_answer_tokens": 1}


def test_a_prompt_without_tokens_is_refused():
    """Nothing would predict the answer's first token."""
    reader = tokenizer(300, bos=None)
    assert isinstance(reader, PreTrainedTokenizerFast)
    reader.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    encoder = ExampleTokenizer(Template(reader), DATA)
    with pytest.raises(DataError, match="empty-1: the prompt has no tokens"):
        encoder.encode(Example("empty-1", "", ("AMF",)))


def test_an_answer_the_teacher_did_not_finish_teaches_no_stop():
    encoder = ExampleTokenizer(Template(tokenizer()), DATA)
    whole = Example("a", "why?", ("one two",), origin="teacher")
    cut = dataclasses.replace(whole, meta={"unfinished": True})
    assert encoder.encode(whole).answer_ids[-1] in encoder.template.stop_ids
    assert encoder.encode(cut).answer_ids == encoder.encode(whole).answer_ids[:-1]
    # A field of the same name in somebody's gold data means nothing.
    gold = dataclasses.replace(cut, origin="gold")
    assert encoder.encode(gold).answer_ids == encoder.encode(whole).answer_ids
