"""Exports of tiny students of each kind, read by the engines that they are for, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from support import exported
from support.tiny import llama, tokenizer
from understudy.deployment import gguf_format
from understudy.deployment.export import EXPORT, ExportOptions, ExportRecord, card_with, export_student
from understudy.deployment.runners import TransformersRunner, write
from understudy.deployment.verification import (
    AnswerCheck,
    MetricDifference,
    check_tokens,
    compare_answers,
    refuse_loss,
    spells_control_token,
)
from understudy.errors import ModelError, RunError
from understudy.models.generate import answer_examples
from understudy.models.load import load_model
from understudy.recipe import ModelConfig
from understudy.tokens.prompts import messages

pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
ROWS = len(exported.rows())
SPELLED = 1


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return exported.causal(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="module")
def onnx(student, tmp_path_factory):
    """The student as ONNX, exported once."""
    folder = tmp_path_factory.mktemp("exports") / "onnx"
    return export_student(student, ExportOptions("onnx"), folder, card="# Tiny\n")


def test_greedy_answers_one_by_one_are_those_of_the_run(student):
    runner = TransformersRunner(student.model, student.tokenizer.template)
    answers = answer_examples(student.model, student.tokenizer, student.rows, batch_size=8)
    for row, answer in zip(student.rows, answers, strict=True):
        written = write(runner, student.tokenizer.prompt_ids(row), student.tokenizer.template.stop_ids, 8)
        assert len(written.ids) == answer.tokens


def test_merged_opens_by_transformers_alone(student, tmp_path):
    record, folder = export_student(student, ExportOptions("merged"), tmp_path / "merged", card="# Tiny\n")
    assert record.answers.equal == ROWS
    # Weights are the same to the bit; sums over them depend on where in memory they lie.
    assert record.answers.max_logit_difference < 1e-5
    assert [check.equal for check in record.tokens] == [ROWS, ROWS - SPELLED]
    model = AutoModelForCausalLM.from_pretrained(folder)
    weights = model.state_dict()
    assert weights.keys() == student.model.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in student.model.state_dict().items())
    words = AutoTokenizer.from_pretrained(folder)
    row = student.rows[-1]
    text = words.apply_chat_template(messages(row), add_generation_prompt=True, tokenize=False)
    ids = words(text, add_special_tokens=False, return_tensors="pt").input_ids
    assert ids[0].tolist() == student.tokenizer.prompt_ids(row)
    out = model.generate(ids, max_new_tokens=8)  # greedy, and it knows what ends an answer
    expected = write(
        TransformersRunner(student.model, student.tokenizer.template), ids[0].tolist(), words.all_special_ids, 8
    )
    assert out[0, ids.shape[1] :].tolist()[: len(expected.ids)] == list(expected.ids)
    assert {"config.json", "generation_config.json", "tokenizer.json", "README.md", EXPORT} <= {
        path.name for path in folder.iterdir()
    }


def test_onnx_is_exact_and_says_so(onnx):
    record, folder = onnx
    assert record.answers.equal + record.answers.ties == ROWS
    assert 0 < record.answers.max_logit_difference < 1e-4
    assert ExportRecord.from_json(json.loads((folder / EXPORT).read_text())).line == record.line
    assert record.line in (folder / "README.md").read_text()
    assert not list(folder.glob("*.safetensors"))


def test_onnx_reads_padded_batches_as_the_model_does(student, onnx):
    """Two prompts of different length, padded on the left, then one step with the cache."""
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx[1] / "model.onnx")
    ids, mask = np.array([[1, 1, 1, 5, 6], [7, 8, 9, 10, 11]]), np.array([[0, 0, 0, 1, 1], [1, 1, 1, 1, 1]])
    places = np.clip(mask.cumsum(1) - 1, 0, None)
    past = {
        place.name: np.zeros((2, place.shape[1], 0, place.shape[3]), np.float32)
        for place in session.get_inputs()
        if place.name.startswith("past")
    }
    first, *present = session.run(None, {"input_ids": ids, "attention_mask": mask, "position_ids": places, **past})
    cached = dict(zip(past, present, strict=True))
    mask = np.concatenate([mask, np.ones((2, 1), np.int64)], axis=1)
    step = {"input_ids": np.array([[12], [13]]), "attention_mask": mask, "position_ids": np.array([[2], [5]])}
    second, *_ = session.run(None, {**step, **cached})
    for number, prompt in enumerate(([5, 6], [7, 8, 9, 10, 11])):
        with torch.no_grad():
            expected = student.model(torch.tensor([[*prompt, 12 + number]])).logits[0].numpy()
        assert first[number, -1] == pytest.approx(expected[-2], abs=1e-4)
        assert second[number, -1] == pytest.approx(expected[-1], abs=1e-4)


@pytest.mark.slow
def test_an_export_that_fails_leaves_the_earlier_one_and_nothing_else(student, onnx):
    record, folder = onnx
    with pytest.raises(RunError, match="failed verification: its logits differ from the original's by up to"):
        export_student(student, ExportOptions("onnx", tolerance=1e-9, rows=2), folder)
    assert {path.name for path in folder.parent.iterdir()} == {"onnx"}
    assert json.loads((folder / EXPORT).read_text()) == record.to_json()


def test_a_folder_of_something_else_is_left_alone(student, tmp_path):
    (tmp_path / "thesis.txt").write_text("do not lose me")
    with pytest.raises(RunError, match="holds something else than an export"):
        export_student(student, ExportOptions("merged"), tmp_path)
    assert (tmp_path / "thesis.txt").is_file()


@pytest.mark.slow
def test_int8_is_smaller_and_its_answers_are_counted(student, tmp_path):
    record, folder = export_student(student, ExportOptions("int8", max_drop=100), tmp_path / "int8")
    answers = record.answers
    assert answers.tolerance is None
    assert answers.equal + answers.parted == ROWS
    assert set(answers.metrics) == {"exact_match", "chrf"}
    assert answers.max_logit_difference > 1e-3
    assert (folder / "model.onnx").stat().st_size == record.bytes


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_an_encoder_decoder_becomes_two_graphs(kind, tmp_path):
    student = exported.seq2seq(tmp_path / "student", kind)
    record, folder = export_student(student, ExportOptions("onnx"), tmp_path / "onnx")
    assert record.answers.equal + record.answers.ties == record.answers.rows == len(student.rows)
    assert {"encoder_model.onnx", "decoder_model.onnx"} <= {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_a_model_that_points_becomes_one_graph(tmp_path):
    student = exported.span(tmp_path / "student")
    for to in ("onnx", "merged"):
        record, _ = export_student(student, ExportOptions(to), tmp_path / to)
        assert record.answers.equal == record.answers.rows == 12
        assert record.answers.max_logit_difference < 1e-4
    with pytest.raises(ModelError, match="a model that points is not exported to GGUF"):
        export_student(student, ExportOptions("gguf"), tmp_path / "gguf")


@pytest.mark.parametrize("precision", ["f32", pytest.param("f16", marks=pytest.mark.slow), "q8_0"])
def test_gguf_as_transformers_reads_it(student, tmp_path, precision):
    record, folder = export_student(
        student, ExportOptions("gguf", precision=precision, max_drop=100), tmp_path / precision
    )
    assert record.format == f"gguf-{precision}"
    assert record.exact == (precision == "f32")
    # Where llama.cpp is installed it reads the prompts too, and the answers in place of `transformers`.
    by_llama = find_spec("llama_cpp") is not None
    assert record.speed.engine == ("llama.cpp" if by_llama else "transformers")
    assert [check.equal for check in record.tokens] == [ROWS, ROWS - SPELLED, *[ROWS - SPELLED] * by_llama]
    read = load_model(ModelConfig(model=str(folder / gguf_format.FILE), dtype="float32"), torch.device("cpu"))
    ids = torch.tensor([student.tokenizer.prompt_ids(student.rows[-1])])
    with torch.no_grad():
        ours, theirs = (model(ids).logits for model in (read, student.model))
    assert torch.equal(ours, theirs) == (precision == "f32")
    assert (ours - theirs).abs().mean() < 0.05 * theirs.abs().mean()
    if precision == "f32":
        assert record.answers.equal + record.answers.ties == ROWS
        assert record.answers.max_logit_difference < 1e-3


def test_what_gguf_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    described = json.loads(tokenizer(300).backend_tokenizer.to_str())
    assert gguf_format.vocabulary_of(described).pre == "gpt-2"
    before = json.loads(json.dumps(described))
    before["pre_tokenizer"]["add_prefix_space"] = True
    with pytest.raises(ModelError, match="puts a space before each text"):
        gguf_format.vocabulary_of(before)
    for changes, words in (
        ({"pre_tokenizer": {"type": "Whitespace"}}, "no name for"),
        ({"normalizer": {"type": "Lowercase"}}, "changes texts"),
        ({"model": {**described["model"], "type": "Unigram"}}, "it is Unigram"),
        ({"model": {**described["model"], "ignore_merges": True}}, "words that are tokens"),
    ):
        with pytest.raises(ModelError, match=words):
            gguf_format.vocabulary_of({**described, **changes})
    student = exported.seq2seq(tmp_path / "t5", "t5")
    with pytest.raises(ModelError, match="t5 is not among the architectures"):
        export_student(student, ExportOptions("gguf"), tmp_path / "gguf")
    assert {path.name for path in tmp_path.iterdir()} == {"t5"}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("rope_parameters", {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}, "scaled"),
        ("attention_bias", True, "biases"),
        ("hidden_act", "gelu", "activation is gelu"),
    ],
)
def test_architectures_are_looked_at_field_by_field(field, value, words):
    model = llama(300)
    setattr(model.config, field, value)
    with pytest.raises(ModelError, match=words):
        gguf_format.check_exportable(model, tokenizer(300))


# What verification finds ----------------------------------------------------------------------------------------------


def test_other_tokens_are_a_fault_and_spelled_control_tokens_are_counted(student):
    template = student.tokenizer.template
    assert [row.id for row in student.rows if spells_control_token(template, row)] == ["row-3"]
    plain = template.tokenizer

    def encode(row):
        return plain(student.tokenizer.prompt_text(row), add_special_tokens=False)["input_ids"]

    check = check_tokens(student.tokenizer, student.rows, encode, by="plain", masks=False)
    assert (check.rows, check.equal, check.spelled) == (ROWS - 1, ROWS - 1, 1)
    with pytest.raises(RunError, match=rf"1 of {ROWS} prompts become other tokens by plain, such as row-3"):
        check_tokens(student.tokenizer, student.rows, encode, by="plain", masks=True)


def compared(student, model, tolerance):
    runners = [TransformersRunner(m, student.tokenizer.template) for m in (student.model, model)]
    common = {"tolerance": tolerance, "config": exported.EVALUATE, "engine": "transformers"}
    return compare_answers(*runners, student.tokenizer, student.rows, **common, progress=lambda *_: None)[0]


def test_weights_that_are_not_the_student_s_are_a_fault(student):
    other = llama(300, width=32, tied=False, seed=0)
    with torch.no_grad():
        other.model.layers[1].mlp.down_proj.weight[3] += 0.5
    with pytest.raises(RunError, match="its logits differ"):
        compared(student, other, 1e-3)
    with torch.no_grad():
        other.lm_head.weight[5] = float("nan")
    with pytest.raises(RunError, match="logits that are no numbers"):
        compared(student, other, None)


def nearly(student, size, seed=1):
    """The student with noise on its head."""
    other = llama(300, width=32, tied=False, seed=0)
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        other.lm_head.weight += size * torch.randn(other.lm_head.weight.shape, generator=noise)
    return other


def test_ties_are_those_whose_two_best_logits_lie_within_the_tolerance(student):
    """Counted by hand from the margins, at a tolerance between the margins of two answers that part."""
    other, template = nearly(student, 0.05), student.tokenizer.template
    runners = [TransformersRunner(model, template) for model in (student.model, other)]
    margins = []
    for row in student.rows:
        ours, theirs = (write(r, student.tokenizer.prompt_ids(row), template.stop_ids, 8) for r in runners)
        places = [n for n, (a, b) in enumerate(zip(ours.ids, theirs.ids, strict=False)) if a != b]
        margins += [ours.margins[places[0]]] if places else []
    assert len(margins) >= 3
    lossy = compared(student, other, None)
    assert (lossy.equal, lossy.ties, lossy.parted) == (ROWS - len(margins), 0, len(margins))
    assert lossy.max_logit_difference > max(margins) / 2
    generous = compared(student, other, lossy.max_logit_difference + max(margins))
    assert (generous.ties, generous.parted) == (len(margins), 0)


def test_answers_that_part_where_logits_are_far_apart_are_a_fault():
    from understudy.deployment.verification import _refuse_inexact

    check = AnswerCheck(10, 8, 1, 1, 1e-5, 1e-3, {})
    with pytest.raises(RunError, match="1 of 10 greedy answers part from the original's where no two logits are close"):
        _refuse_inexact(check, "row-1")
    _refuse_inexact(replace(check, parted=0), "")
    _refuse_inexact(replace(check, tolerance=None), "row-1")


def test_a_loss_is_refused_only_where_it_is_shown():
    def check(high):
        difference = MetricDifference(50.0, 40.0, -10.0, -15.0, high)
        return AnswerCheck(10, 5, 0, 5, 1.0, None, {"chrf": difference})

    refuse_loss(check(-4.0), 5.0)
    refuse_loss(check(None), 5.0)
    with pytest.raises(RunError, match=r"chrf falls by 10.0 points \(6.0 to 15.0\), and 5 are allowed"):
        refuse_loss(check(-6.0), 5.0)


def test_the_card_has_one_line_of_an_export(onnx):
    record, _ = onnx
    once = card_with("# Tiny\n\ntext\n", record)
    assert card_with(once, record) == once
    assert once.startswith("# Tiny\n\ntext\n\n## Export\n")
