"""Answers in batches against one at a time, and the likelihood of choices against a direct computation."""

import pytest
import torch
import transformers
from test_forward import CONFIGS, make

from support.tiny import llama, tokenizer
from support.tiny import trainer as make_trainer
from understudy.models.generate import choice_scores, generate
from understudy.tokens.template import Template

QUESTIONS = [
    "Which function terminates N2?",
    "UPF?",
    "Which of the functions of the core network that were named so far stores subscriptions, and why?",
    "",
    "Who?",
]


def prompts(template):
    return [template.prompt_ids([{"role": "user", "content": question}]) for question in QUESTIONS]


def one_by_one(model, template, rows, num):
    answers = []
    for row in rows:
        out = model.generate(
            input_ids=torch.tensor([row]),
            attention_mask=torch.ones(1, len(row), dtype=torch.long),
            max_new_tokens=num,
            do_sample=False,
            pad_token_id=template.tokenizer.pad_token_id,
            eos_token_id=list(template.stop_ids),
        )
        answers.append(out[0, len(row) :].tolist())
    return answers


def prone_to_stop(model, template):
    """Make the stop token likely, so that rows end at different lengths."""
    with torch.no_grad():
        head = model.get_output_embeddings().weight
        head[template.stop_ids[0]] = head.mean(0) + 0.02 * head[7] + 1.1 * head[template.stop_ids[0]]
    return model


@pytest.mark.parametrize("batch_size", [1, 2, 64])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("pad", ["<pad>", None])
def test_batches_answer_as_single_prompts_do(pad, batch_size, seed):
    """Also where the end token pads, which nobody could tell from a prompt's own."""
    template = Template(tokenizer(300, pad=pad))
    model = prone_to_stop(llama(len(template.tokenizer), tied=False, seed=seed), template)
    rows = prompts(template)
    expected = one_by_one(model, template, rows, 12)
    counted = []
    answers = generate(model, template, rows, max_new_tokens=12, batch_size=batch_size, progress=counted.append)
    for answer, ids in zip(answers, expected, strict=True):
        ends = [place for place, token in enumerate(ids) if token in template.stop_ids]
        kept = ids[: ends[0]] if ends else ids
        assert answer.text == template.decode(kept)
        assert answer.finished == bool(ends)
        assert answer.tokens == len(kept) + bool(ends)
    assert seed or pad is None or {answer.finished for answer in answers} == {True, False}
    assert sum(counted) == len(rows)
    assert not model.training


def test_any_of_the_stop_tokens_ends_an_answer(tokenizer):
    """The template's end of turn and the tokenizer's own end token differ; both stop."""
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|turn|>\n{% endfor %}"
    template = Template(tokenizer)
    turn, end = tokenizer.convert_tokens_to_ids("<|turn|>"), tokenizer.eos_token_id
    assert template.stop_ids == (turn, end)
    for stop in (turn, end):
        model = llama(len(tokenizer), tied=False)
        with torch.no_grad():
            model.model.norm.weight.fill_(0)
        model.lm_head = torch.nn.Linear(16, len(tokenizer))
        torch.nn.init.zeros_(model.lm_head.weight)
        torch.nn.init.zeros_(model.lm_head.bias)
        with torch.no_grad():
            model.lm_head.bias[stop] = 5.0
        (answer,) = generate(model, template, [[5, 6, 7]], max_new_tokens=9)
        assert (answer.text, answer.tokens, answer.finished) == ("", 1, True)


def test_a_model_in_training_stays_so(template):
    model = llama(len(template.tokenizer), dropout=0.5).train()
    rows = prompts(template)
    first = generate(model, template, rows, max_new_tokens=8)
    assert model.training
    assert [a.text for a in first] == [a.text for a in generate(model.eval(), template, rows, max_new_tokens=8)]


def test_adapters_and_checkpointed_activations_do_not_change_answers(tmp_path, template):
    run = make_trainer(tmp_path, "sft", steps=2)
    run.train()
    student = run.module.student
    rows = prompts(template)
    plain = generate(student, template, rows, max_new_tokens=8)
    assert [a.text for a in plain] == [template.decode(ids) for ids in one_by_one(student.eval(), template, rows, 8)]
    run.module.activation_checkpointing_enable()
    student.train()
    assert [a.text for a in generate(student, template, rows, max_new_tokens=8)] == [a.text for a in plain]


def direct(model, prompt, choice):
    """Mean log-probability of a choice, each token by its own forward pass over all before it."""
    total, ids = 0.0, list(prompt)
    for token in choice:
        with torch.no_grad():
            total += model(input_ids=torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)[token].item()
        ids.append(token)
    return total / len(choice)


@pytest.mark.parametrize("name", CONFIGS)
def test_choice_scores_are_mean_log_probabilities(name):
    model = make(name)
    rows = [
        [([3, 4, 5, 6, 7, 8], [9, 2]), ([3, 4, 5, 6, 7, 8], [10, 11, 12, 2])],
        [([13], [14, 15]), ([13], [2]), ([13], [16, 17, 18, 19, 2])],
    ]
    for batch_size in (2, 64):
        scores = choice_scores(model, rows, pad_id=0, batch_size=batch_size)
        assert [len(row) for row in scores] == [2, 3]
        for row, given in zip(scores, rows, strict=True):
            assert row == pytest.approx([direct(model, *choice) for choice in given], abs=1e-3)


def test_choices_are_scored_with_the_adapter_on_the_head(tmp_path):
    run = make_trainer(tmp_path, "sft", steps=3)
    run.train()
    student = run.module.student.eval()
    pair = ([3, 4, 5], [6, 7, 8])
    ((score,),) = choice_scores(student, [[pair]], pad_id=1)
    assert score == pytest.approx(direct(student, *pair), abs=1e-4)


def test_real_story_model_goes_on_as_published(shared):
    folder = shared / "models" / "stories260k"
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    reader = transformers.AutoTokenizer.from_pretrained(folder)
    template = Template(reader)
    starts = [reader(text)["input_ids"] for text in ("Once upon a time", "Lily", "The dog ran to the big")]
    batched = generate(model, template, starts, max_new_tokens=16)
    assert [a.text for a in batched] == [template.decode(ids) for ids in one_by_one(model, template, starts, 16)]
    assert "there was a little girl named Lily" in batched[0].text


def test_two_tokenizers_are_two_vocabularies():
    assert len(tokenizer(300)) != len(tokenizer(340))
