"""How sure a model is of what it writes, against one forward pass over the whole text."""

import pytest
import torch
from test_generate import one_by_one, prompts, prone_to_stop

from support import tiny_seq2seq, tiny_span
from support.tiny import llama, tokenizer
from understudy.confidence import Confidence
from understudy.models.generate import answer_examples, generate
from understudy.models.sampling import Sampling
from understudy.tokens.template import Template


def forward_logps(model, prompt, answer):
    """Of each token of an answer, and the margin of the first."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1].float()
    logps = logits.log_softmax(-1)
    best = logps[0].topk(2).values
    return logps.gather(1, torch.tensor(answer)[:, None])[:, 0].tolist(), float(best[0] - best[1])


@pytest.mark.parametrize("batch_size", [1, 3])
def test_confidence_of_a_greedy_answer_is_that_of_a_forward_pass(batch_size):
    template = Template(tokenizer(300))
    model = prone_to_stop(llama(len(template.tokenizer), tied=False, seed=0), template)
    rows = prompts(template)
    answers = generate(model, template, rows, max_new_tokens=9, batch_size=batch_size, confidence=True)
    for prompt, ids, answer in zip(rows, one_by_one(model, template, rows, 9), answers, strict=True):
        kept = ids[: answer.tokens - answer.finished]
        if not kept:
            assert answer.confidence == Confidence()
            continue
        logps, margin = forward_logps(model, prompt, kept)
        assert answer.confidence.mean_logp == pytest.approx(sum(logps) / len(logps), abs=1e-4)
        assert answer.confidence.min_logp == pytest.approx(min(logps), abs=1e-4)
        assert answer.confidence.first_margin == pytest.approx(margin, abs=1e-4)
    assert {answer.finished for answer in answers} == {True, False}


def test_asking_for_confidence_changes_no_answer_and_it_is_that_of_the_model_without_noise():
    template = Template(tokenizer(300))
    model = llama(len(template.tokenizer), tied=False, seed=2)
    rows = prompts(template)
    samplings = [Sampling(1.0, seed) for seed in range(len(rows))]
    common = {"max_new_tokens": 5, "samplings": samplings}
    plain = generate(model, template, rows, **common)
    noted = generate(model, template, rows, **common, confidence=True)
    assert [answer.text for answer in plain] == [answer.text for answer in noted]
    assert all(answer.confidence is None for answer in plain)
    # What was drawn is seldom the likeliest: its log-probabilities lie below those of the greedy answer.
    greedy = generate(model, template, rows, max_new_tokens=5, confidence=True)
    assert sum(a.confidence.first_logp < b.confidence.first_logp for a, b in zip(noted, greedy, strict=True)) >= 3


def test_confidence_of_an_encoder_decoder_is_that_of_its_decoder():
    template = tiny_seq2seq.template("t5")
    model = tiny_seq2seq.model("t5", len(template.tokenizer))
    rows = [template.prompt_ids([{"role": "user", "content": text}]) for text in ("Which one?", "Who ends N2?")]
    answers = generate(model, template, rows, max_new_tokens=4, confidence=True)
    for prompt, answer in zip(rows, answers, strict=True):
        ids = model.generate(
            input_ids=torch.tensor([prompt]),
            max_new_tokens=4,
            do_sample=False,
            num_beams=1,
            eos_token_id=list(template.stop_ids),
        )[0]
        kept = ids[1 : 1 + answer.tokens - answer.finished]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt]), decoder_input_ids=ids[None]).logits[0].float()
        logps = logits.log_softmax(-1)[: len(kept)].gather(1, kept[:, None])
        assert answer.confidence.sum_logp == pytest.approx(float(logps.sum()), abs=1e-4)


def test_a_model_that_points_is_as_sure_as_its_spans_say():
    """Against every span of a context of one window, tried one by one."""
    reader = tiny_span.reader()
    model = tiny_span.bert(len(reader.template.tokenizer), seed=3)
    for example in tiny_span.examples(4):
        (window,) = reader.windows(example)
        with torch.no_grad():
            tokens = type(window).batched([window], 0)["inputs"]
            output = model(**tokens)
        start, end = output.start_logits[0], output.end_logits[0]
        begin, stop = window.context
        sums = [start[0] + end[0]]
        for first in range(begin, stop):
            sums += [
                start[first] + end[last] for last in range(first, min(first + reader.data.max_answer_tokens, stop))
            ]
        best = torch.stack(sums).log_softmax(0).max()
        (answer,) = answer_examples(model, reader, [example], batch_size=1)
        assert answer.confidence.span_logp == pytest.approx(float(best), abs=1e-4)
