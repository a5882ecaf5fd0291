"""A model that points: what it says of positions, the span it answers with, and how it is opened and saved."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForQuestionAnswering, BertConfig, BertForMaskedLM

from support import tiny, tiny_span
from understudy.data.benchmark_formats import UNANSWERABLE
from understudy.errors import ConfigError, DataError, ModelError
from understudy.models.adapters import add_lora, merged
from understudy.models.forward import forward, probe
from understudy.models.generate import answer_examples, choice_scores, generate
from understudy.models.kinds import kind_of
from understudy.models.kinds.span import best_span, likeliest_spans
from understudy.models.load import load_example_tokenizer, load_model
from understudy.recipe import LoraConfig, ModelConfig
from understudy.tokens.collate import short_inputs
from understudy.tokens.spans import SpanExample, SpanTokenizer
from understudy.training.session import save_model
from understudy.types import Example, Gives

CPU = torch.device("cpu")


def test_the_output_is_the_model_s_own_logits_over_the_context() -> None:
    reader = tiny_span.reader()
    model = tiny_span.bert(len(reader.template.tokenizer))
    rows = [reader.encode(row) for row in tiny_span.examples(4)]
    tokens = SpanExample.batched(rows, 0)
    output = forward(model, tokens)
    own = model(**tokens["inputs"])
    logp = output.states.masked().detach().log_softmax(-1)  # pyright: ignore[reportAttributeAccessIssue]
    for n, row in enumerate(rows):
        offered = [0, *range(*row.context)]
        for side, logits in enumerate((own.start_logits[n], own.end_logits[n])):
            torch.testing.assert_close(logp[2 * n + side, offered], logits[offered].log_softmax(-1))
            assert logp[2 * n + side].exp().sum() == pytest.approx(1, abs=1e-6)
    assert output.lengths == (2,) * 4
    scores = choice_scores(model, [[row] for row in rows], pad_id=0)
    places = torch.arange(8)
    means = logp[places, tokens["target_ids"]].view(-1, 2).mean(1)
    torch.testing.assert_close(torch.tensor(scores)[:, 0], means)
    assert probe(model, short_inputs(rows[0])) == 0.0


def test_weights_that_are_no_numbers_are_named() -> None:
    reader = tiny_span.reader()
    model = tiny_span.bert(len(reader.template.tokenizer))
    torch.nn.init.constant_(model.qa_outputs.weight, float("nan"))
    with pytest.raises(ModelError, match="student: the model does not give two finite logits"):
        probe(model, short_inputs(reader.encode(tiny_span.examples(1)[0])), name="student")


def test_the_best_span_is_that_of_all_pairs() -> None:
    """Against every pair of positions of every window, tried one by one."""
    context = " ".join(f"The UPF ends N{n}." for n in range(20))
    reader = tiny_span.reader()
    windows = reader.windows(Example("a", "Who?", (), context))
    assert len(windows) > 2
    for seed in range(30):
        noise = torch.Generator().manual_seed(seed)
        logits = [torch.randn(2, len(window.prompt_ids) + 3, generator=noise) for window in windows]
        for scores in logits:
            scores[:, 0] -= 3 * (seed % 3)
        tried = {UNANSWERABLE: min(float(scores[0, 0] + scores[1, 0]) for scores in logits)}
        for window, scores in zip(windows, logits, strict=True):
            for first in range(*window.context):
                for last in range(first, min(first + reader.data.max_answer_tokens, window.context[1])):
                    start, end = (window.offsets[place - window.context[0]] for place in (first, last))
                    value = float(scores[0, first] + scores[1, last])
                    text = context[start[0] : end[1]]
                    tried[text] = max(value, tried.get(text, -1e9))
        text, length = best_span(context, windows, logits, reader.data)
        assert text == max(tried, key=tried.__getitem__)
        assert 1 <= length <= reader.data.max_answer_tokens
        # The likeliest few, each text once, with a softmax over their scores and that of no answer.
        none = tried.pop(UNANSWERABLE)
        ranked = sorted(tried.items(), key=lambda pair: -pair[1])[:5]
        spans = likeliest_spans(context, windows, logits, reader.data, num=5)
        assert {span.text for span in spans} == {UNANSWERABLE, *dict(ranked)}
        shares = torch.tensor([none, *dict(ranked).values()]).softmax(0).tolist()
        expected = dict(zip([UNANSWERABLE, *dict(ranked)], shares, strict=True))
        assert {span.text: span.probability for span in spans} == pytest.approx(expected, abs=1e-5)
        # No answer wins where it lies the threshold above the best span.
        gap = none - ranked[0][1]
        for threshold, answered in ((gap + 0.01, True), (gap - 0.01, False)):
            data = reader.data.model_copy(update={"null_threshold": threshold})
            text, _ = best_span(context, windows, logits, data)
            assert text == (ranked[0][0] if answered else UNANSWERABLE)


def test_windows_share_as_many_tokens_as_asked_for() -> None:
    context = " ".join(f"The UPF ends N{n}." for n in range(20))
    for stride in (4, 20):
        reader = tiny_span.reader(data=tiny_span.DATA.model_copy(update={"stride": stride}))
        windows = reader.windows(Example("a", "Who?", (), context))
        shared = [len(set(one.offsets) & set(other.offsets)) for one, other in itertools.pairwise(windows)]
        assert shared[:-1] == [stride] * (len(windows) - 2)
    reader = tiny_span.reader(data=tiny_span.DATA.model_copy(update={"stride": 47}))
    with pytest.raises(DataError, match=r"data\.stride is 47"):
        reader.windows(Example("a", "Who?", (), context))


def test_answers_do_not_depend_on_the_batch() -> None:
    reader = tiny_span.reader()
    model = tiny_span.bert(len(reader.template.tokenizer), seed=3)
    rows = tiny_span.examples(9)
    alone = [answer_examples(model, reader, [row], batch_size=1)[0].text for row in rows]
    assert [answer.text for answer in answer_examples(model, reader, rows, batch_size=4)] == alone
    for row, text in zip(rows, alone, strict=True):
        assert text == UNANSWERABLE or text in (row.context or "")


def test_a_model_that_points_writes_nothing() -> None:
    reader = tiny_span.reader()
    model = tiny_span.bert(len(reader.template.tokenizer))
    with pytest.raises(ModelError, match="writes no text"):
        generate(model, reader.template, [[2, 5, 3]], max_new_tokens=3)


def test_an_encoder_of_another_task_is_opened_by_its_kind(tmp_path: Path) -> None:
    own = tiny_span.tokenizer()
    own.save_pretrained(tmp_path)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertForMaskedLM(BertConfig(vocab_size=len(own), **small)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is an encoder") as refused:
        load_model(ModelConfig(model=str(tmp_path)), CPU)
    assert "kind: span" in str(refused.value.hint)
    config = ModelConfig(model=str(tmp_path), kind="span")
    model, again = load_model(config, CPU, seed=4), load_model(config, CPU, seed=4)
    assert kind_of(model.config).gives is Gives.LOGPS
    # The head that the weights lack comes out of the seed.
    torch.testing.assert_close(model.qa_outputs.weight, again.qa_outputs.weight)  # pyright: ignore
    reader = load_example_tokenizer(config, tiny_span.DATA)
    assert isinstance(reader, SpanTokenizer)
    save_model(model, reader.template, tmp_path / "saved")
    opened = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(opened.qa_outputs.weight, model.qa_outputs.weight)  # pyright: ignore
    # What was saved says itself what it is.
    assert isinstance(load_example_tokenizer(ModelConfig(model=str(tmp_path / "saved")), tiny_span.DATA), SpanTokenizer)


def test_kinds_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    tiny.llama(20).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="no kind of model 'spam'") as unknown:
        load_model(ModelConfig(model=str(tmp_path), kind="spam"), CPU)
    assert "span" in str(unknown.value.hint)
    with pytest.raises(ModelError, match=r"\[CLS\]"):
        load_example_tokenizer(ModelConfig(model=str(tmp_path), kind="span"), tiny_span.DATA)


def test_adapters_of_a_model_that_points_are_merged() -> None:
    reader = tiny_span.reader()
    model = add_lora(tiny_span.bert(len(reader.template.tokenizer)), LoraConfig(r=2, target_modules=["query", "value"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    tokens = SpanExample.batched([reader.encode(row) for row in tiny_span.examples(3)], 0)
    with torch.no_grad():
        before = forward(model, tokens).states.masked()  # pyright: ignore[reportAttributeAccessIssue]
        after = forward(merged(model), tokens).states.masked()  # pyright: ignore[reportAttributeAccessIssue]
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)
