"""Vision–language models: what they are shown, what they say, and what a student learns of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from support import tiny, tiny_pictures
from support.stopping import StopAt
from understudy.data.pictures import address_of, open_image
from understudy.errors import ModelError
from understudy.losses import divergence
from understudy.models.adapters import add_lora, check_lora, merged
from understudy.models.forward import forward, probe
from understudy.models.generate import answer_examples, choice_scores
from understudy.models.kinds import kind_of
from understudy.recipe import LoraConfig, ModelConfig
from understudy.teachers.cache.keys import row_keys
from understudy.tokens.collate import Collator, encode_rows, short_inputs
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.pictures import PictureExample
from understudy.tokens.template import Template
from understudy.types import Example

BOTH = pytest.mark.parametrize("architecture", tiny_pictures.ARCHITECTURES)
PAD = 1


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("seeing")


def by_hand(folder: Path, example: Example, answer: str = "") -> Any:
    """What the library's own processor makes of a row and the beginning of its answer."""
    processor = AutoProcessor.from_pretrained(folder)
    text = f"<|user|>{tiny_pictures.IMAGE * len(example.images)}{example.question}<|assistant|>{answer}"
    images = [open_image(image) for image in example.images]
    if not images:
        return processor.tokenizer(text, return_tensors="pt", add_special_tokens=False)
    return processor(text=text, images=images, return_tensors="pt", add_special_tokens=False)


def logits_by_hand(folder: Path, model: Any, example: Example) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits in float64 that foresee each token of the answer, of a row alone, and these tokens."""
    prompt = by_hand(folder, example)["input_ids"].shape[1]
    whole = by_hand(folder, example, f"{example.answers[0]}<|end|>")
    with torch.no_grad():
        logits = model(**whole).logits[0].double()
    return logits[prompt - 1 : -1], whole["input_ids"][0, prompt:]


@BOTH
def test_the_kind_is_told_by_the_config_and_its_head_is_the_models_own(root: Path, architecture: str) -> None:
    folder = tiny_pictures.folder_of(architecture, root)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert kind_of(model.config).name == "image_text"
    own = tiny_pictures.reader(folder)
    for example in tiny_pictures.examples():
        assert probe(model, short_inputs(own.encode(example))) < 1e-5


@BOTH
def test_a_row_is_what_the_processor_makes_of_it(root: Path, architecture: str) -> None:
    folder = tiny_pictures.folder_of(architecture, root)
    own = tiny_pictures.reader(folder)
    for example in tiny_pictures.examples():
        row = own.encode(example, token_ends=True)
        expected = by_hand(folder, example, f"{example.answers[0]}<|end|>")
        assert row.ids == expected["input_ids"][0].tolist()
        assert own.prompt_ids(example) == by_hand(folder, example)["input_ids"][0].tolist()
        assert row.token_ends[0] == 0
        assert row.token_ends[-1] == len(example.answers[0].encode()) + 1
        inputs = PictureExample.batched([row], PAD)["inputs"]
        assert inputs.keys() == expected.keys()
        for name in expected.keys() - {"input_ids", "attention_mask"}:
            torch.testing.assert_close(inputs[name], expected[name])


@BOTH
def test_a_text_that_names_a_picture_is_text(root: Path, architecture: str) -> None:
    own = tiny_pictures.reader(tiny_pictures.folder_of(architecture, root))
    picture = address_of(tiny_pictures.content("red"))
    asked = Example("x", "What does <image> mean?", ("<image> <|end|> red",), images=(picture,))
    row = own.encode(asked)
    image_id = own.template.reader.image_id
    assert row.prompt_ids.count(image_id) == own.template.reader.token_ids(picture).count(image_id)
    assert image_id not in row.answer_ids
    assert own.template.decode(row.answer_ids) == "<image> <|end|> red"


@BOTH
def test_rows_of_a_batch_do_not_see_each_others_pictures(root: Path, architecture: str) -> None:
    folder = tiny_pictures.folder_of(architecture, root)
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    rows = encode_rows(tiny_pictures.examples(), tiny_pictures.reader(folder))
    with torch.no_grad():
        together = forward(model, Collator(PAD)(rows)["student"]).states.hidden
        alone = [forward(model, Collator(PAD)([row])["student"]).states.hidden for row in rows]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)
    other = tiny_pictures.examples()
    other[1] = Example("y", other[1].question, other[1].answers, images=(address_of(tiny_pictures.content("white")),))
    with torch.no_grad():
        changed = forward(model, Collator(PAD)(encode_rows(other, tiny_pictures.reader(folder)))["student"])
    lengths = [len(row.student.answer_ids) for row in rows]
    pieces = zip(together.split(lengths), changed.states.hidden.split(lengths), strict=True)
    assert [not torch.allclose(a, b, atol=1e-5) for a, b in pieces] == [n == 1 for n in range(len(rows))]


@BOTH
def test_answers_and_scores_are_those_of_the_library_called_by_hand(root: Path, architecture: str) -> None:
    folder = tiny_pictures.folder_of(architecture, root)
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    own, examples = tiny_pictures.reader(folder), tiny_pictures.examples()
    answers = answer_examples(model, own, examples, batch_size=3)
    for example, answer in zip(examples, answers, strict=True):
        inputs = by_hand(folder, example)
        ids = model.generate(**inputs, do_sample=False, max_new_tokens=16, eos_token_id=0, pad_token_id=PAD)
        expected = ids[0, inputs["input_ids"].shape[1] :].tolist()
        assert answer.text == own.template.decode(expected)
    scores = choice_scores(model, [[own.encode(example)] for example in examples], pad_id=PAD, batch_size=3)
    for example, [score] in zip(examples, scores, strict=True):
        logits, targets = logits_by_hand(folder, model, example)
        logp = logits.log_softmax(-1).gather(1, targets[:, None])
        assert score == pytest.approx(float(logp.mean()), rel=1e-4)


def made(root: Path, student: str, *, images: bool = True) -> tuple[tiny.Pair, list, list[Path]]:
    """A pair whose teacher sees, its rows, and the folders of both."""
    folders = [tiny_pictures.folder_of(student, root, 16, 3), tiny_pictures.folder_of("llava", root, 24, 4)]
    teacher = tiny_pictures.reader(folders[1])
    if student == "blind":
        own: ExampleTokenizer = ExampleTokenizer(Template(tiny_pictures.tokenizer()), tiny_pictures.DATA)
        model: Any = tiny_pictures.blind(width=16, seed=3)
    else:
        own = tiny_pictures.reader(folders[0], images=images)
        model = AutoModelForImageTextToText.from_pretrained(folders[0])
    seeing = AutoModelForImageTextToText.from_pretrained(folders[1]).eval()
    rows = encode_rows(tiny_pictures.examples(), own, teacher)
    return tiny.Pair(model, seeing, own.template, teacher.template), rows, folders


@pytest.mark.parametrize(("student", "images"), [("llava", True), ("llava", False), ("blind", True)])
def test_the_loss_is_the_formula_on_the_tokens_of_the_answer(
    tmp_path: Path, root: Path, student: str, images: bool
) -> None:
    """Σ g·CE + (1 − g)·KL(teacher ‖ student) over the answer's tokens, in float64, each row by the library alone."""
    pair, rows, folders = made(root, student, images=images)
    shown = student == "llava" and images
    batch = pair.collator("kd")(rows)
    assert (batch["teacher"] is batch["student"]) == shown
    assert ("pixel_values" in batch["student"]["inputs"]) == shown
    assert "pixel_values" in batch["teacher"]["inputs"]
    total, num, tau = 0.0, 0, 2.0
    for example in tiny_pictures.examples():
        seen = example if shown else Example(example.id, example.question, example.answers)
        q, targets = logits_by_hand(folders[1] if student == "blind" else folders[0], pair.student.eval(), seen)
        p, _ = logits_by_hand(folders[1], pair.teacher, example)
        compared = divergence("forward_kl")((q / tau).log_softmax(-1), (p / tau).log_softmax(-1))
        gold = -q.log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
        total += float((0.7 * compared + 0.3 * gold).sum())
        num += len(targets)
    assert num == len(batch["student"]["target_ids"])
    fields = {"steps": 1, "batch_size": len(rows), "loss_temperature": tau, "gold_weight": 0.3}
    trainer = tiny.trainer(tmp_path, "kd", made=pair, rows=rows, **fields)
    assert trainer.train().training_loss == pytest.approx(total / num, rel=1e-5)


def test_stopped_and_gone_on_ends_with_the_same_bytes(tmp_path: Path, root: Path) -> None:
    fields = {"steps": 4, "batch_size": 4, "micro_batch_size": 2, "save_every": 2}
    weights = []
    for name, stop in (("whole", 0), ("stopped", 2)):
        pair, rows, _ = made(root, "llava")
        trainer = tiny.trainer(tmp_path / name, "kd", made=pair, rows=rows, **fields)
        if stop:
            trainer.add_callback(StopAt(stop))
        trainer.train()
        if stop:
            pair, rows, _ = made(root, "llava")
            trainer = tiny.trainer(tmp_path / name, "kd", made=pair, rows=rows, **fields)
            trainer.train(resume_from_checkpoint=str(tmp_path / name / "checkpoint-2"))
        weights.append(tiny.weights(trainer))
    assert any("vision" in name for name in weights[0])
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_adapters_on_eye_and_reader_learn_and_are_merged(tmp_path: Path, root: Path) -> None:
    pair, rows, folders = made(root, "llava")
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    check_lora(ModelConfig(model=str(folders[0])), lora)
    pair = dataclasses.replace(pair, student=add_lora(pair.student, lora))
    trainer = tiny.trainer(tmp_path, "kd", made=pair, rows=rows, steps=3, batch_size=4)
    before = tiny.weights(trainer)
    assert any("vision" in name for name in before)
    assert any("language" in name for name in before)
    trainer.train()
    assert any(not torch.equal(value, before[name]) for name, value in tiny.weights(trainer).items())
    batch = pair.collator("kd")(rows)["student"]
    with torch.no_grad():
        adapted = forward(pair.student.eval(), batch).states.hidden
        final = merged(pair.student, None).eval()
        torch.testing.assert_close(forward(final, batch).states.hidden, adapted, atol=1e-5, rtol=1e-4)
    assert kind_of(final.config).name == "image_text"


def test_a_cache_tells_rows_by_their_pictures(root: Path) -> None:
    own = tiny_pictures.reader(tiny_pictures.folder_of("llava", root))
    addresses = [address_of(tiny_pictures.content("white", shade=shade)) for shade in (0, 1)]
    rows = [Example("same", "Which colour is it?", ("red",), images=(picture,)) for picture in addresses]
    one, other = (row_keys(Collator(PAD, PAD)(encode_rows([row], own, own)))[0] for row in rows)
    assert one.row == other.row
    assert one.tokens != other.tokens


def test_two_processors_that_see_otherwise_share_no_batch(root: Path) -> None:
    folder = tiny_pictures.folder_of("llava", root)
    own, other = tiny_pictures.reader(folder), tiny_pictures.reader(folder)
    other.template.processor.image_processor.image_mean = [0.1] * 3
    batch = Collator(PAD, PAD)(encode_rows(tiny_pictures.examples(), own, other))
    assert batch["teacher"] is not batch["student"]
    pixels = [batch[side]["inputs"]["pixel_values"] for side in ("student", "teacher")]
    assert not torch.equal(*pixels)


def test_a_chat_template_without_a_place_for_a_picture_is_refused(root: Path) -> None:
    folder = tiny_pictures.folder_of("llava", root)
    own = tiny_pictures.reader(folder)
    own.template.tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}{% endfor %}"
    with pytest.raises(ModelError, match="leaves 0 places for 1 pictures"):
        own.prompt_ids(tiny_pictures.examples()[1])


def test_a_chat_template_of_plain_texts_has_the_picture_before_the_question(root: Path) -> None:
    folder = tiny_pictures.folder_of("llava", root)
    config = ModelConfig(model=str(folder))
    plain = tiny_pictures.tokenizer()
    plain.chat_template = "{% for m in messages %}<|user|>{{ m['content'].strip() }}{% endfor %}<|assistant|>"
    kind = kind_of(tiny_pictures.model_config(folder))
    template = kind.template(plain, config, tiny_pictures.model_config(folder), str(folder))
    text = kind.example_tokenizer(template, tiny_pictures.DATA).prompt_text(tiny_pictures.examples()[1])
    assert text == "<|user|><image>\nName the colour, please.<|assistant|>"


def test_a_folder_without_a_processor_is_refused_in_one_line(root: Path, tmp_path: Path) -> None:
    tiny_pictures.model("llava").save_pretrained(tmp_path)
    tiny_pictures.tokenizer().save_pretrained(tmp_path)
    kind = kind_of(tiny_pictures.model_config(tmp_path))
    with pytest.raises(ModelError, match="processor") as refused:
        kind.template(
            tiny_pictures.tokenizer(), ModelConfig(model="x"), tiny_pictures.model_config(tmp_path), str(tmp_path)
        )
    assert "\n" not in refused.value.message
