"""A tokenizer with more tokens than its model has embeddings for: refused by name, padded around, or resized."""

import json
from dataclasses import replace

import pytest
import torch

from support import tiny_seq2seq, tiny_span
from support.tiny import DATA, EVERY_LINEAR, FACTS, examples, llama, tokenizer
from understudy.completers.local_completer import LocalCompleter
from understudy.errors import ModelError
from understudy.inspection.doctor import examine
from understudy.models.adapters import add_lora, merged
from understudy.models.forward import probe
from understudy.models.load import add_embeddings, head_columns, load_model, load_template
from understudy.pipeline.kinds import stage_of
from understudy.pipeline.stages import run_stage
from understudy.pipeline.stages.preparation import check_variant
from understudy.recipe import EndpointConfig, LoraConfig, ModelConfig, Recipe, parse_recipe
from understudy.run import Run
from understudy.tokens.collate import Collator, ExampleTokenizer, encode_rows
from understudy.types import Message, Request

CPU = torch.device("cpu")


def model_folder(path, core):
    """A model of 300 embeddings beside a tokenizer."""
    llama(300).save_pretrained(path)
    core.save_pretrained(path)
    return str(path)


@pytest.fixture
def padded(tmp_path):
    """As `add_special_tokens({"pad_token": …})` leaves it behind: the pad token is number 300."""
    core = tokenizer(300, pad=None)
    core.add_special_tokens({"pad_token": "<pad>"})
    assert core.pad_token_id == len(core) - 1 == 300
    return model_folder(tmp_path / "padded", core)


@pytest.fixture
def extended(tmp_path):
    """A token of its own that stands in the data."""
    core = tokenizer(300)
    core.add_tokens(["<tool>"])
    return model_folder(tmp_path / "extended", core)


def recipe_of(folder, tmp_path, **student):
    rows = [{"id": str(n), "question": question, "answer": answer} for n, (question, answer) in enumerate(FACTS * 2)]
    rows[3]["answer"] = "call <tool> now"
    (tmp_path / "qa.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    model = {"model": folder, **student}
    return parse_recipe(
        {
            "data": {"source": str(tmp_path / "qa.jsonl"), "max_length": 128, "max_answer_tokens": 32},
            "teacher": model,
            "student": model,
            "distil": {"method": "kd", "steps": 2, "batch_size": 4, "micro_batch_size": 4},
            "evaluate": {"arms": ["sft"]},
            "output": str(tmp_path / "runs"),
            "device": "cpu",
        }
    )


def test_a_pad_token_without_an_embedding_is_not_padded_with(padded, tmp_path):
    template = load_template(ModelConfig(model=padded))
    assert template.tokenizer.pad_token == "</s>"
    assert template.notes[-1] == (
        "the model has no embedding for the pad token '<pad>' (300): '</s>' pads, and padding is masked by position"
    )
    recipe = recipe_of(padded, tmp_path)
    check_variant(recipe, {"train": examples(4)})
    batch = Collator(template.tokenizer.pad_token_id)(encode_rows(examples(4), ExampleTokenizer(template, DATA)))
    model = load_model(recipe.student, CPU)
    assert model(**batch["student"]["inputs"]).logits.isfinite().all()
    assert examine(recipe).methods["kd"].verdict == "sound"


def test_a_token_of_the_data_without_an_embedding_is_named(extended, tmp_path):
    recipe = recipe_of(extended, tmp_path)
    message = "student: its tokenizer has tokens for which the model, with 300 embeddings, has none: '<tool>' \\(300\\)"
    with pytest.raises(ModelError, match=message) as refused:
        check_variant(recipe, {"train": examples(4)})
    assert refused.value.hint.endswith("or set student.resize_embeddings: true")
    report = examine(recipe)
    assert report.unsound
    assert {judged.verdict for judged in report.methods.values()} == {"unsound"}
    assert "'<tool>' (300)" in report.methods["kd"].why


def test_a_judge_in_this_process_is_refused_too(extended):
    judge = LocalCompleter(EndpointConfig(model=extended), device="cpu")
    with pytest.raises(ModelError, match="300 embeddings, has none: '<tool>'"):
        list(judge.complete([Request("q", (Message("user", "why"),))]))


def test_a_special_token_that_nothing_writes_does_no_harm(tmp_path):
    """Gemma 3 1B: `<image_soft_token>` is number 262,144 of as many embeddings; text that names it stays text."""
    core = tokenizer(300)
    core.add_special_tokens({"additional_special_tokens": ["<image_soft_token>"]})
    recipe = recipe_of(model_folder(tmp_path / "image", core), tmp_path)
    example = replace(examples(1)[0], question="What is <image_soft_token>?")
    template = check_variant(recipe, {"train": [example]}).student
    assert max(ExampleTokenizer(template, recipe.data).encode(example).ids) < 300
    assert examine(recipe).methods["kd"].verdict == "sound"


def test_a_template_that_writes_such_a_token_is_refused(tmp_path):
    core = tokenizer(300)
    core.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    core.chat_template = "{% for m in messages %}<turn>{{ m.content }}{% endfor %}{{ eos_token }}"
    recipe = recipe_of(model_folder(tmp_path / "turn", core), tmp_path)
    with pytest.raises(ModelError, match="'<turn>' \\(300\\)"):
        check_variant(recipe, {"train": examples(4)})


@pytest.mark.parametrize("tied", [True, False])
def test_resized_embeddings_are_the_mean_of_the_others(extended, tied):
    llama(300, tied=tied).save_pretrained(extended)
    config = ModelConfig(model=extended, resize_embeddings=True)
    before = torch.random.get_rng_state()
    model = load_model(config, CPU)
    assert torch.equal(torch.random.get_rng_state(), before)
    old = llama(300, tied=tied)
    for layer, other in (
        (model.get_input_embeddings(), old.get_input_embeddings()),
        (model.lm_head, old.lm_head),
    ):
        assert torch.equal(layer.weight[:300], other.weight)
        assert torch.allclose(layer.weight[300], other.weight.mean(dim=0))
        assert layer.weight.shape == (301, 16)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is tied
    assert model.config.vocab_size == head_columns(config) == 301
    ids = torch.tensor([[5, 300, 7]])
    assert probe(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}) < 1e-5


def test_a_resized_student_is_trained_on_the_token_and_saved(extended, tmp_path):
    recipe = recipe_of(extended, tmp_path, resize_embeddings=True)
    run = Run.of(recipe)
    run.prepare(recipe)
    for stage in (stage_of("data", ""), stage_of("pair", ""), stage_of("train", "sft")):
        run_stage(stage, recipe, run.folder, lambda *_: None)
    saved = str(run.stage("train-sft") / "model")
    model = load_model(recipe.student, CPU, weights=saved)
    template = load_template(recipe.student, weights=saved)
    assert model.get_input_embeddings().num_embeddings == len(template.tokenizer) == 301  # pyright: ignore
    assert not torch.equal(model.lm_head.weight[300], load_model(recipe.student, CPU).lm_head.weight[300])
    assert examine(recipe).methods["kd"].verdict == "sound"


def test_adapters_go_onto_a_resized_model_and_into_it(extended):
    config = ModelConfig(model=extended, resize_embeddings=True)
    model = add_lora(load_model(config, CPU), LoraConfig(r=4, target_modules=EVERY_LINEAR))
    assert merged(model).lm_head.weight.shape[0] == 301


@pytest.mark.parametrize("kind", ["t5", "t5-v1.1", "bart"])
def test_encoder_decoders_are_resized(kind):
    model = tiny_seq2seq.model(kind, 300)
    add_embeddings(model, 304)
    ids = torch.tensor([[5, 303, 7]])
    logits = model(input_ids=ids, decoder_input_ids=ids).logits
    assert logits.shape == (1, 3, 304)
    assert logits.isfinite().all()


def test_an_encoder_that_points_is_resized():
    model = tiny_span.bert(200)
    add_embeddings(model, 203)
    add_embeddings(model, 100)
    assert model(input_ids=torch.tensor([[202]])).start_logits.isfinite().all()
    assert model.config.vocab_size == 203


def test_recipes_that_do_not_resize_keep_the_fingerprint_they_had():
    identity = Recipe().identity()
    assert "resize_embeddings" not in {**identity["teacher"], **identity["student"]}
    student = {"model": "embedded:telecom-student"}
    plain, resized = (parse_recipe({"student": {**student, "resize_embeddings": on}}) for on in (False, True))
    assert plain.fingerprint() == parse_recipe({"student": student}).fingerprint() != resized.fingerprint()
