"""Models that give a picture a label: what they read and say, how they are distilled, what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageClassification, ViTConfig, ViTImageProcessorPil

from support import tiny, tiny_pictures
from support.stopping import StopAt
from understudy.data.embedded import digits
from understudy.data.pictures import address_of, open_image
from understudy.errors import ConfigError, DataError, ModelError
from understudy.losses import divergence
from understudy.models.forward import probe
from understudy.models.generate import answer_examples
from understudy.models.kinds import KINDS, kind_of
from understudy.models.load import load_example_tokenizer, load_model
from understudy.recipe import DataConfig, ModelConfig
from understudy.teachers.cache.keys import row_keys
from understudy.tokens.collate import encode_rows, short_inputs
from understudy.tokens.image_labels import ImageLabelTokenizer
from understudy.types import Example

LABELS = tuple(tiny_pictures.COLOURS)
DATA = DataConfig(max_length=8, max_answer_tokens=1, labels=LABELS)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vision transformer without a head, and its image processor; no tokenizer."""
    path = tmp_path_factory.mktemp("vit")
    config = ViTConfig(
        image_size=8,
        patch_size=4,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        initializer_range=0.2,
        architectures=["ViTModel"],
    )
    config.save_pretrained(path)
    size = {"height": 8, "width": 8}
    ViTImageProcessorPil(size=size, image_mean=[0.4] * 3, image_std=[0.5] * 3).save_pretrained(path)
    return path


def section(folder: Path, **fields: Any) -> ModelConfig:
    given = {"kind": "classify_images", "init": "fresh", "labels": LABELS, **fields}
    return ModelConfig.model_validate({"model": str(folder), **given})


def rows(num: int = 8) -> list[Example]:
    """Pictures of one colour each, of several shades."""
    return [
        Example(f"p-{n}", "", (LABELS[n % 4],), images=(address_of(tiny_pictures.content(LABELS[n % 4], shade=n)),))
        for n in range(num)
    ]


def logits_by_hand(folder: Path, model: Any, example: Example) -> torch.Tensor:
    """What the library itself makes of one picture, in float64."""
    processor = ViTImageProcessorPil.from_pretrained(folder)
    with torch.no_grad():
        inputs = processor(images=[open_image(example.images[0])], return_tensors="pt")
        return model.eval()(**inputs).logits[0].double()


def test_it_gets_a_head_for_the_labels_and_says_what_the_library_says(folder: Path, tmp_path: Path) -> None:
    config = section(folder)
    own = load_example_tokenizer(config, DATA)
    assert isinstance(own, ImageLabelTokenizer)
    model = load_model(config, CPU, seed=1)
    assert kind_of(model.config).name == "classify_images"
    assert model.config.id2label == dict(enumerate(LABELS))
    assert probe(model, short_inputs(own.encode(rows()[0]))) == 0
    answers = answer_examples(model, own, rows(), batch_size=3)
    for example, answer in zip(rows(), answers, strict=True):
        logp = logits_by_hand(folder, model, example).log_softmax(-1)
        assert answer.text == LABELS[int(logp.argmax())]
        assert dict(answer.candidates)[answer.text] == pytest.approx(float(logp.max().exp()), abs=1e-5)
    model.save_pretrained(tmp_path)
    own.template.save(tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()
    again = load_model(ModelConfig(model=str(tmp_path), labels=LABELS), CPU)
    assert isinstance(again, type(AutoModelForImageClassification.from_pretrained(tmp_path)))
    same = answer_examples(again, load_example_tokenizer(ModelConfig(model=str(tmp_path)), DATA), rows(), batch_size=8)
    assert [answer.text for answer in same] == [answer.text for answer in answers]


def made(folder: Path) -> tuple[tiny.Pair, list]:
    """A pair of one architecture, and its rows."""
    own = load_example_tokenizer(section(folder), DATA)
    student, teacher = (load_model(section(folder), CPU, seed=seed) for seed in (1, 2))
    return tiny.Pair(student, teacher.eval(), own.template, own.template), encode_rows(rows(), own, own)


def test_the_loss_of_a_step_is_the_formula(folder: Path, tmp_path: Path) -> None:
    """Σ g·CE + (1 − g)·KL(teacher ‖ student) over the labels of each picture, in float64."""
    pair, encoded = made(folder)
    batch = pair.collator("kd")(encoded)
    assert batch["teacher"] is batch["student"]
    total, tau = 0.0, 2.0
    for example in rows():
        q, p = (logits_by_hand(folder, model, example) for model in (pair.student, pair.teacher))
        compared = divergence("forward_kl")((q / tau).log_softmax(-1)[None], (p / tau).log_softmax(-1)[None])
        total += 0.7 * float(compared) - 0.3 * float(q.log_softmax(-1)[LABELS.index(example.answers[0])])
    fields = {"steps": 1, "batch_size": len(encoded), "loss_temperature": tau, "gold_weight": 0.3}
    trainer = tiny.trainer(tmp_path, "kd", made=pair, rows=encoded, **fields)
    assert trainer.train().training_loss == pytest.approx(total / len(encoded), rel=1e-5)


def test_stopped_and_gone_on_ends_with_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    weights = []
    for name, stop in (("whole", 0), ("stopped", 2)):
        fields = {"steps": 4, "batch_size": 4, "micro_batch_size": 2, "save_every": 2}
        pair, encoded = made(folder)
        trainer = tiny.trainer(tmp_path / name, "kd", made=pair, rows=encoded, **fields)
        if stop:
            trainer.add_callback(StopAt(stop))
        trainer.train()
        if stop:
            pair, encoded = made(folder)
            trainer = tiny.trainer(tmp_path / name, "kd", made=pair, rows=encoded, **fields)
            trainer.train(resume_from_checkpoint=str(tmp_path / name / "checkpoint-2"))
        weights.append(tiny.weights(trainer))
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_a_row_of_a_cache_is_told_by_its_picture(folder: Path) -> None:
    pair, encoded = made(folder)
    keys = row_keys(pair.collator("kd")(encoded))
    assert len({key.tokens for key in keys}) == len(keys)
    assert row_keys(pair.collator("kd")(encoded[2:4])) == keys[2:4]


def test_what_it_cannot_read_or_learn_is_refused_in_one_line(folder: Path) -> None:
    own = load_example_tokenizer(section(folder), DATA)
    with pytest.raises(DataError, match="reads one, and the row has 0"):
        own.encode(Example("x", "text", ("red",)))
    two = rows()[0].images + rows()[1].images
    with pytest.raises(DataError, match="reads one, and the row has 2"):
        own.encode(Example("x", "", ("red",), images=two))
    with pytest.raises(DataError, match="'pink' is none of the labels"):
        own.encode(Example("x", "", ("pink",), images=two[:1]))
    with pytest.raises(ModelError, match="reads nothing but pictures"):
        load_example_tokenizer(section(folder, images=False), DATA)
    with pytest.raises(ModelError, match="cannot be a model that classifies pictures"):
        KINDS["classify_images"].auto_class(tiny.llama(20).config, "a Llama")
    with pytest.raises(ModelError, match=r"list them in data\.labels"):
        load_model(section(folder, labels=()), CPU)


def test_a_folder_without_an_image_processor_is_refused_in_one_line(tmp_path: Path, folder: Path) -> None:
    AutoConfig.from_pretrained(folder).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="cannot load the image processor") as refused:
        load_example_tokenizer(section(tmp_path), DATA)
    assert "\n" not in refused.value.message


def test_the_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    splits = digits.generate(gold_share=0.25)
    images, labels = load_digits(return_X_y=True)
    assert len(splits.rows) == len(images) == 1797
    for row in splits.test[:40]:
        number = int(row.id.removeprefix("digit-"))
        assert row.answers == (str(labels[number]),)
        opened = open_image(row.images[0])
        seen = [opened.getpixel((x, y))[0] for y in range(8) for x in range(8)]  # pyright: ignore
        assert seen == [int(value * 255 / 16) for value in images[number]]
    assert {row.id for row in splits.test}.isdisjoint(row.id for row in (*splits.train, *splits.unlabelled))
    assert len(splits.train) == pytest.approx(len(splits.unlabelled) / 3, abs=2)
    assert digits.generate(gold_share=0.25) == splits
    assert digits.generate(seed=1).test != splits.test
    with pytest.raises(ConfigError, match="gold_share"):
        digits.generate(gold_share=2)
