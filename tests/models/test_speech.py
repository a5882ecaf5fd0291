"""Models that write down what they hear: what they read of a row, what they say, and what a student learns of it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

from support import tiny, tiny_speech
from support.stopping import StopAt
from understudy.data.recordings import address_of, audio_name, samples
from understudy.errors import DataError, ModelError
from understudy.files import cache_folder
from understudy.losses import divergence
from understudy.models.adapters import add_lora, check_lora, merged
from understudy.models.forward import forward, probe
from understudy.models.generate import answer_examples, choice_scores
from understudy.models.kinds import kind_of
from understudy.models.positions import positions_of
from understudy.recipe import LoraConfig, ModelConfig
from understudy.teachers.cache.identity import tokenizer_identity
from understudy.teachers.cache.keys import row_keys
from understudy.tokens.collate import Collator, encode_rows, short_inputs
from understudy.tokens.recordings import FeatureReader
from understudy.types import Example


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hearing")


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, as a machine has it that has heard nothing yet."""
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def features_by_hand(folder: Path, example: Example) -> torch.Tensor:
    """What the library's own processor makes of a recording."""
    processor = AutoProcessor.from_pretrained(folder)
    heard = samples(example.audio or "", tiny_speech.RATE)
    return processor(heard, sampling_rate=tiny_speech.RATE, return_tensors="pt").input_features


def logits_by_hand(folder: Path, model: Any, example: Example) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits in float64 that foresee each token of the answer, of a row alone, and these tokens."""
    written = AutoProcessor.from_pretrained(folder).tokenizer(example.answers[0], return_tensors="pt").input_ids
    features = features_by_hand(folder, example)
    with torch.no_grad():
        logits = model(input_features=features, decoder_input_ids=written[:, :-1]).logits[0].double()
    # The tokenizer puts two tokens before a text; the first one learned is foreseen at the second.
    return logits[1:], written[0, 2:]


def test_the_kind_is_told_by_the_config_and_its_head_is_the_models_own(root: Path) -> None:
    folder = tiny_speech.folder_of(root)
    model = AutoModelForSpeechSeq2Seq.from_pretrained(folder)
    assert kind_of(model.config).name == "speech"
    own = tiny_speech.reader(folder)
    for example in tiny_speech.examples():
        assert probe(model, short_inputs(own.encode(example))) < 1e-5


def test_a_row_is_what_the_processor_makes_of_it(root: Path) -> None:
    folder = tiny_speech.folder_of(root)
    own, rows = tiny_speech.reader(folder), tiny_speech.examples()
    processor = AutoProcessor.from_pretrained(folder)
    batch = Collator(own.template.end_id)(encode_rows(rows, own))["student"]
    expected = torch.cat([features_by_hand(folder, row) for row in rows])
    torch.testing.assert_close(batch["inputs"]["input_features"], expected)
    for place, example in enumerate(rows):
        ids = processor.tokenizer(example.answers[0]).input_ids
        read = batch["inputs"]["decoder_input_ids"][place][batch["inputs"]["decoder_attention_mask"][place].bool()]
        assert read.tolist() == ids[:-1]
        assert own.encode(example).learned_ids == ids[2:]
    assert batch["target_mask"].sum() == len(batch["target_ids"])
    assert not batch["target_mask"][:, 0].any()


def test_a_text_that_names_a_special_token_is_text(root: Path) -> None:
    own = tiny_speech.reader(tiny_speech.folder_of(root))
    row = own.template.encode([], "raise <|endoftext|> <|startoftranscript|>")
    assert own.template.start_ids[0] not in row.answer_ids
    assert row.answer_ids.index(own.template.end_id) == len(row.answer_ids) - 1
    assert own.template.decode(row.answer_ids) == "raise <|endoftext|> <|startoftranscript|>"


def test_rows_of_a_batch_do_not_hear_each_other(root: Path) -> None:
    folder = tiny_speech.folder_of(root)
    own = tiny_speech.reader(folder)
    model = AutoModelForSpeechSeq2Seq.from_pretrained(folder).eval()
    pad, examples = own.template.end_id, tiny_speech.examples()
    rows = encode_rows(examples, own)
    with torch.no_grad():
        together = forward(model, Collator(pad)(rows)["student"]).states.hidden
        alone = [forward(model, Collator(pad)([row])["student"]).states.hidden for row in rows]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)
    other = [*examples]
    other[1] = dataclasses.replace(other[1], audio=address_of(tiny_speech.content("noise noise")))
    with torch.no_grad():
        changed = forward(model, Collator(pad)(encode_rows(other, own))["student"]).states.hidden
    lengths = [len(row.student.answer_ids) for row in rows]
    pieces = zip(together.split(lengths), changed.split(lengths), strict=True)
    assert [not torch.allclose(a, b, atol=1e-5) for a, b in pieces] == [n == 1 for n in range(len(rows))]


def test_answers_and_scores_are_those_of_the_library_called_by_hand(root: Path) -> None:
    folder = tiny_speech.folder_of(root)
    model = AutoModelForSpeechSeq2Seq.from_pretrained(folder).eval()
    own, examples = tiny_speech.reader(folder), tiny_speech.examples()
    answers = answer_examples(model, own, examples, batch_size=3, confidence=True)
    for example, answer in zip(examples, answers, strict=True):
        written = list(own.template.start_ids)
        features = features_by_hand(folder, example)
        for _ in range(own.data.max_answer_tokens):
            with torch.no_grad():
                logits = model(input_features=features, decoder_input_ids=torch.tensor([written])).logits[0, -1]
            written.append(int(logits.argmax()))
            if written[-1] == own.template.end_id:
                break
        assert answer.text == own.template.decode(written[2:])
        assert answer.confidence is not None
    scores = choice_scores(model, [[own.encode(row)] for row in examples], pad_id=own.template.end_id, batch_size=3)
    for example, [score] in zip(examples, scores, strict=True):
        logits, targets = logits_by_hand(folder, model, example)
        logp = logits.log_softmax(-1).gather(1, targets[:, None])
        assert score == pytest.approx(float(logp.mean()), rel=1e-4)


def made(root: Path) -> tuple[tiny.Pair, list, list[Path]]:
    """A pair that hears, its rows, and the folders of both."""
    folders = [tiny_speech.folder_of(root, 16, 3), tiny_speech.folder_of(root, 24, 4)]
    own, other = map(tiny_speech.reader, folders)
    student, teacher = map(AutoModelForSpeechSeq2Seq.from_pretrained, folders)
    rows = encode_rows(tiny_speech.examples(), own, other)
    return tiny.Pair(student, teacher.eval(), own.template, other.template), rows, folders


def test_the_loss_is_the_formula_on_the_tokens_of_the_answer(tmp_path: Path, root: Path) -> None:
    """Σ g·CE + (1 − g)·KL(teacher ‖ student) over the answer's tokens, in float64, each row by the library alone."""
    pair, rows, folders = made(root)
    batch = pair.collator("kd")(rows)
    assert batch["teacher"] is batch["student"]
    total, num, tau = 0.0, 0, 2.0
    for example in tiny_speech.examples():
        q, targets = logits_by_hand(folders[0], pair.student.eval(), example)
        p, _ = logits_by_hand(folders[1], pair.teacher, example)
        compared = divergence("forward_kl")((q / tau).log_softmax(-1), (p / tau).log_softmax(-1))
        gold = -q.log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
        total += float((0.7 * compared + 0.3 * gold).sum())
        num += len(targets)
    assert num == len(batch["student"]["target_ids"])
    fields: dict[str, Any] = {"steps": 1, "batch_size": len(rows), "loss_temperature": tau, "gold_weight": 0.3}
    trainer = tiny.trainer(tmp_path, "kd", made=pair, rows=rows, **fields)
    assert trainer.train().training_loss == pytest.approx(total / num, rel=1e-5)


def test_stopped_and_gone_on_ends_with_the_same_bytes(tmp_path: Path, root: Path) -> None:
    fields: dict[str, Any] = {"steps": 4, "batch_size": 4, "micro_batch_size": 2, "save_every": 2}
    weights = []
    for name, stop in (("whole", 0), ("stopped", 2)):
        pair, rows, _ = made(root)
        trainer = tiny.trainer(tmp_path / name, "kd", made=pair, rows=rows, **fields)
        if stop:
            trainer.add_callback(StopAt(stop))
        trainer.train()
        if stop:
            pair, rows, _ = made(root)
            trainer = tiny.trainer(tmp_path / name, "kd", made=pair, rows=rows, **fields)
            trainer.train(resume_from_checkpoint=str(tmp_path / name / "checkpoint-2"))
        weights.append(tiny.weights(trainer))
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_a_student_learns_to_write_down_tones(tmp_path: Path, root: Path) -> None:
    pair, rows, folders = made(root)
    fields: dict[str, Any] = {"steps": 150, "batch_size": 8, "learning_rate": 5e-3}
    tiny.trainer(tmp_path, "sft", made=pair, rows=rows, **fields).train()
    own = tiny_speech.reader(folders[0])
    answers = answer_examples(pair.student, own, tiny_speech.examples(), batch_size=8)
    right = [answer.text == example.answers[0] for answer, example in zip(answers, tiny_speech.examples(), strict=True)]
    assert sum(right) >= 7


def test_adapters_learn_and_are_merged(tmp_path: Path, root: Path) -> None:
    pair, rows, folders = made(root)
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    check_lora(ModelConfig(model=str(folders[0])), lora)
    pair = dataclasses.replace(pair, student=add_lora(pair.student, lora))
    trainer = tiny.trainer(tmp_path, "kd", made=pair, rows=rows, steps=3, batch_size=4)
    before = tiny.weights(trainer)
    assert any("encoder" in name for name in before)
    assert any("decoder" in name for name in before)
    trainer.train()
    assert any(not torch.equal(value, before[name]) for name, value in tiny.weights(trainer).items())
    batch = pair.collator("kd")(rows)["student"]
    with torch.no_grad():
        adapted = forward(pair.student.eval(), batch).states.hidden
        final = merged(pair.student, None).eval()
        torch.testing.assert_close(forward(final, batch).states.hidden, adapted, atol=1e-5, rtol=1e-4)
    assert kind_of(final.config).name == "speech"


def test_a_saved_folder_writes_what_was_measured_whatever_its_weights_came_with(root: Path, tmp_path: Path) -> None:
    """Published Whispers suppress tokens, look for the language, and name ids that force the beginning."""
    folder = tiny_speech.folder_of(root)
    model: Any = AutoModelForSpeechSeq2Seq.from_pretrained(folder).eval()
    own, examples = tiny_speech.reader(folder), tiny_speech.examples()
    likeliest = own.template.tokenizer("raise", add_special_tokens=False).input_ids
    model.generation_config.suppress_tokens = [*range(100, 300)]
    model.generation_config.begin_suppress_tokens = likeliest
    model.generation_config.num_beams = 3
    model.generation_config.lang_to_id = {"<|en|>": 5, "<|de|>": 6}
    model.generation_config.task_to_id = {"transcribe": 7}
    model.generation_config.is_multilingual = True
    model.generation_config.no_timestamps_token_id = own.template.start_ids[-1]
    model.generation_config.forced_decoder_ids = [[1, 5], [2, 7]]
    expected = [answer.text for answer in answer_examples(model, own, examples, batch_size=8)]
    kind_of(model.config).prepare_to_save(model, own.template)
    model.save_pretrained(tmp_path)
    own.template.save(tmp_path)
    saved, processor = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    features = torch.cat([features_by_hand(tmp_path, row) for row in examples])
    ids = saved.eval().generate(features, max_new_tokens=own.data.max_answer_tokens)
    written = processor.batch_decode(ids, skip_special_tokens=True)
    assert [text.strip() for text in written] == expected


def test_what_a_tokenizer_puts_before_a_text_is_what_a_decoder_begins_with(root: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_speech.folder_of(root), tmp_path / "model")
    path = tmp_path / "model" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"task": "transcribe"}))
    own = tiny_speech.reader(tmp_path / "model")
    tokens = own.template.tokenizer.convert_ids_to_tokens(list(own.template.start_ids))
    assert tokens == ["<|startoftranscript|>", "<|transcribe|>", "<|notimestamps|>"]


def test_features_are_made_once_and_read_from_the_disk_after(root: Path, fresh_cache: Path) -> None:
    folder = tiny_speech.folder_of(root)
    [example, *_] = tiny_speech.examples()
    audio = example.audio or ""
    first = tiny_speech.reader(folder).template.reader
    made_now = first.features(audio)
    [path] = (fresh_cache / "features").glob("*/*.npy")
    assert path == cache_folder("features") / first.identity / f"{audio_name(audio)}.npy"
    # What lies there is what is heard: another process makes nothing anew.
    np.save(path, made_now.numpy() + 1)
    torch.testing.assert_close(tiny_speech.reader(folder).template.reader.features(audio), made_now + 1)


@pytest.mark.parametrize("spoiled", [b"", b"\x93NUMPY", None])
def test_features_that_are_not_whole_are_made_anew(root: Path, fresh_cache: Path, spoiled: bytes | None) -> None:
    folder = tiny_speech.folder_of(root)
    [example, *_] = tiny_speech.examples()
    made_now = tiny_speech.reader(folder).template.reader.features(example.audio or "")
    [path] = (fresh_cache / "features").glob("*/*.npy")
    path.write_bytes(path.read_bytes()[:-8] if spoiled is None else spoiled)
    again = tiny_speech.reader(folder).template.reader.features(example.audio or "")
    torch.testing.assert_close(again, made_now)
    assert np.load(path).shape == made_now.shape


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written_costs_time_and_no_run(root: Path, fresh_cache: Path) -> None:
    fresh_cache.mkdir()
    fresh_cache.chmod(0o500)
    reader = tiny_speech.reader(tiny_speech.folder_of(root)).template.reader
    assert reader.features(tiny_speech.examples()[0].audio or "").shape == reader.shape


def test_a_cache_that_is_a_file_costs_time_and_no_run(root: Path, fresh_cache: Path) -> None:
    fresh_cache.write_text("no folder")
    reader = tiny_speech.reader(tiny_speech.folder_of(root)).template.reader
    assert reader.features(tiny_speech.examples()[0].audio or "").shape == reader.shape


def test_two_extractors_that_hear_otherwise_share_neither_batch_nor_cache(root: Path, fresh_cache: Path) -> None:
    folder = tiny_speech.folder_of(root)
    own, other = tiny_speech.reader(folder), tiny_speech.reader(folder)
    other.template.processor.feature_extractor.dither = 0.1
    other.template.reader = FeatureReader(other.template.processor.feature_extractor, "other")
    pad = own.template.end_id
    batch = Collator(pad, pad)(encode_rows(tiny_speech.examples(), own, other))
    assert batch["teacher"] is not batch["student"]
    assert len(list((fresh_cache / "features").iterdir())) == 2
    assert tokenizer_identity(own.template) != tokenizer_identity(other.template)


def test_a_cache_of_a_teacher_tells_rows_by_their_recordings(root: Path) -> None:
    own = tiny_speech.reader(tiny_speech.folder_of(root))
    pad = own.template.end_id
    recordings = [address_of(tiny_speech.content("raise gain", loud=loud)) for loud in (0.5, 0.4)]
    rows = [Example("same", "", ("raise gain",), audio=audio) for audio in recordings]
    one, other = (row_keys(Collator(pad, pad)(encode_rows([row], own, own)))[0] for row in rows)
    assert one.row == other.row
    assert one.tokens != other.tokens


def test_what_is_longer_than_the_window_is_refused(root: Path) -> None:
    own = tiny_speech.reader(tiny_speech.folder_of(root))
    long = Example("x", "", ("raise",), audio=address_of(tiny_speech.content(" ".join(["raise"] * 17))))
    with pytest.raises(DataError, match=r"^x: the recording takes 4\.2 s, and the model hears 4 s at once"):
        own.check(long, learned=True)
    with pytest.raises(DataError, match=r"the model hears 4 s at once"):
        own.template.reader.features(long.audio or "")
    with pytest.raises(DataError, match=r"^x: a model that writes down speech reads a recording, and the row has none"):
        own.check(Example("x", "What was said?", ("raise",)), learned=True)


def test_an_extractor_that_does_not_fit_the_encoder_is_refused_in_one_line(root: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_speech.folder_of(root), tmp_path / "model")
    path = tmp_path / "model" / "processor_config.json"
    fields = json.loads(path.read_text())
    fields["feature_extractor"] |= {"chunk_length": 5, "n_samples": 80_000, "nb_max_frames": 250}
    path.write_text(json.dumps(fields))
    with pytest.raises(
        ModelError, match="makes 40 bands and 250 frames of a recording, and the encoder reads 40 and 200"
    ):
        tiny_speech.reader(tmp_path / "model")


def test_a_folder_without_a_feature_extractor_is_refused_in_one_line(root: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_speech.folder_of(root), tmp_path / "model")
    (tmp_path / "model" / "processor_config.json").unlink()
    with pytest.raises(ModelError, match=r"cannot load the processor|has no feature extractor") as refused:
        tiny_speech.reader(tmp_path / "model")
    assert "\n" not in refused.value.message


def test_answers_that_the_decoder_has_no_positions_for_are_told(root: Path) -> None:
    positions = positions_of(ModelConfig(model=str(tiny_speech.folder_of(root))), 500)
    assert positions is not None
    assert positions.written == 64
