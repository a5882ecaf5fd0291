"""Encoder–decoders: head and states, adapters, answers, likelihoods, folders – against the models' own logits."""

import dataclasses
import itertools
import json

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, BertConfig, BertLMHeadModel

from support.tiny_seq2seq import KINDS, model, template
from understudy.errors import ModelError
from understudy.models.adapters import add_lora, merged
from understudy.models.forward import forward, probe
from understudy.models.generate import choice_scores, generate
from understudy.models.head import base_model, head_of
from understudy.models.load import load_model, load_template
from understudy.recipe import LoraConfig, ModelConfig
from understudy.tokens.collate import short_inputs
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.template import Template
from understudy.training.session import save_model

CPU = torch.device("cpu")
TEMPLATES = {kind: template(kind) for kind in KINDS}
QUESTIONS = ["Which function terminates N2?", "N4?", "Which port does GTP-U use? A. 2152 B. 2123", "Who charges?"]
ANSWERS = ["AMF", "the SMF and the UPF", "2152", "CHF"]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def reader(kind) -> Template:
    return TEMPLATES[kind]


@pytest.fixture
def net(kind, reader):
    return model(kind, len(reader.tokenizer))


def encoded(reader):
    turns = [[{"role": "user", "content": question}] for question in QUESTIONS]
    return [reader.encode(turn, answer) for turn, answer in zip(turns, ANSWERS, strict=True)]


def own_logits(net, row, dtype=torch.float32):
    """`[S_dec, V]` of one row by the model's own forward, unpadded; position s predicts token s of the answer."""
    written = torch.tensor([[*row.start, *row.answer_ids][:-1]])
    with torch.no_grad():
        logits = net.to(dtype)(input_ids=torch.tensor([row.prompt_ids]), decoder_input_ids=written).logits[0]
    net.to(torch.float32)
    return logits[len(row.start) - 1 :]


# -- head and states -------------------------------------------------------------------------------------------------


def test_head_of_states_is_the_models_own_logits(kind, reader, net):
    assert probe(net, short_inputs(encoded(reader)[0])) < 1e-5
    head = head_of(net)
    assert (head.scale == 16**-0.5, head.bias is not None) == (kind == "t5", kind == "bart")
    assert (head.weight is net.get_input_embeddings().weight) == (kind != "t5-v1.1")


def test_the_probe_sees_a_scale_it_does_not_know(reader):
    odd = model("t5", 300)
    odd.model_dim = 4
    with pytest.raises(ModelError, match="differs from the model's own logits"):
        probe(odd, short_inputs(encoded(reader)[0]))


def test_forward_keeps_the_states_that_predict_target_tokens(kind, reader, net):
    rows = encoded(reader)
    output = forward(net, TokenizedExample.batched(rows, reader.tokenizer.pad_token_id), embeddings=True)
    assert output.lengths == tuple(len(row.answer_ids) for row in rows)
    expected = torch.cat([own_logits(net, row) for row in rows])
    torch.testing.assert_close(output.head.logits(output.hidden), expected, atol=1e-4, rtol=1e-4)
    factor = 4.0 if kind == "bart" else 1.0
    table = net.get_input_embeddings().weight.detach() * factor
    targets = [token for row in rows for token in row.answer_ids]
    read = [token for row in rows for token in [row.start[-1], *row.answer_ids[:-1]]]
    torch.testing.assert_close(output.target_embeddings, table[targets])
    torch.testing.assert_close(output.input_embeddings, table[read])


@pytest.mark.parametrize("left", [0, 3])
def test_padding_changes_nothing(reader, net, kind, left):
    rows = encoded(reader)[:1]
    plain = TokenizedExample.batched(rows, reader.tokenizer.pad_token_id)
    wide = {"target_ids": plain["target_ids"], "inputs": {}, "target_mask": None}
    # Only an encoder without absolute positions may be padded on the left.
    left = left if kind != "bart" else 0
    for name, value in plain["inputs"].items():
        before = 0 if name.startswith("decoder") else left
        wide["inputs"][name] = torch.nn.functional.pad(value, (before, 5), value=7 * (not name.endswith("mask")))
    wide["target_mask"] = torch.nn.functional.pad(plain["target_mask"], (0, 5), value=False)
    torch.testing.assert_close(forward(net, wide).hidden, forward(net, plain).hidden, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("targets", ["all-linear", "head too"])
def test_adapters_are_honoured_in_value_and_gradient_and_merge(kind, reader, net, targets, tmp_path):
    if targets == "head too":
        names = {name.split(".")[-1] for name, part in net.named_modules() if isinstance(part, torch.nn.Linear)}
        targets = sorted(names)
    adapted = add_lora(net, LoraConfig(r=3, target_modules=targets)).eval()
    assert adapted.peft_config["default"].task_type == "SEQ_2_SEQ_LM"
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)) * 0.3
    rows = encoded(reader)
    tokens = TokenizedExample.batched(rows, reader.tokenizer.pad_token_id)
    assert probe(adapted, short_inputs(rows[1])) < 1e-5
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    output = forward(adapted, tokens)
    ours = torch.autograd.grad(output.head.logits(output.hidden).logsumexp(-1).sum(), trained)
    logits = adapted(**tokens["inputs"]).logits[tokens["target_mask"]]
    theirs = torch.autograd.grad(logits.logsumexp(-1).sum(), trained)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)
    save_model(adapted, reader, tmp_path / "model")
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model").eval()
    with torch.no_grad():
        found = again(**tokens["inputs"]).logits[tokens["target_mask"]]
    torch.testing.assert_close(found, logits.detach(), atol=1e-3, rtol=1e-3)


# -- answers ---------------------------------------------------------------------------------------------------------


def greedy(net, reader, prompt, limit, prefix=()):
    """One token after the other, each by a forward pass over everything."""
    written = [*reader.start_ids, *prefix]
    found = []
    while len(found) < limit:
        with torch.no_grad():
            logits = net(input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([written])).logits
        token = int(logits[0, -1].argmax())
        found.append(token)
        written.append(token)
        if token in reader.stop_ids:
            break
    return found


def test_answers_are_greedy_whatever_the_batch(reader, net):
    prompts = [row.prompt_ids for row in encoded(reader)]
    expected = [greedy(net, reader, prompt, 8) for prompt in prompts]
    for batch_size in (1, 3, 8):
        found = generate(net, reader, prompts, max_new_tokens=8, batch_size=batch_size)
        assert [answer.tokens for answer in found] == [len(ids) for ids in expected]
        assert [answer.text for answer in found] == [reader.decode(ids) for ids in expected]
        assert [answer.finished for answer in found] == [ids[-1] in reader.stop_ids for ids in expected]
    backwards = generate(net, reader, prompts[::-1], max_new_tokens=8)
    assert [answer.text for answer in backwards] == [reader.decode(ids) for ids in expected[::-1]]


def test_an_answer_goes_on_behind_its_prefix(reader, net):
    prompts = [row.prompt_ids for row in encoded(reader)]
    prefixes = [[], [9, 10], [11], [12, 13]]
    expected = [greedy(net, reader, prompt, 6, prefix) for prompt, prefix in zip(prompts, prefixes, strict=True)]
    found = generate(net, reader, prompts, max_new_tokens=6, prefixes=prefixes)
    assert [answer.text for answer in found] == [reader.decode(ids) for ids in expected]


def test_what_a_model_brings_along_for_generation_is_left_aside(reader, net):
    prompts = [row.prompt_ids for row in encoded(reader)]
    before = generate(net, reader, prompts, max_new_tokens=6)
    extra = {"num_beams": 3, "no_repeat_ngram_size": 1, "min_length": 5, "forced_eos_token_id": 4}
    net.generation_config.update(**extra, forced_bos_token_id=5)
    assert [a.text for a in generate(net, reader, prompts, max_new_tokens=6)] == [a.text for a in before]


# -- likelihoods -----------------------------------------------------------------------------------------------------


def by_hand(net, row):
    logp = own_logits(net, row, torch.float64).log_softmax(-1)
    chosen = [logp[n, token].item() for n, token in enumerate(row.answer_ids)][row.num_forced :]
    return sum(chosen) / len(chosen)


@pytest.mark.parametrize("batch_size", [2, 64])
def test_choice_scores_are_mean_log_probabilities(reader, net, batch_size):
    turns = [[{"role": "user", "content": question}] for question in QUESTIONS]
    rows = [[reader.encode(turn, answer) for answer in ANSWERS[: 2 + n % 2]] for n, turn in enumerate(turns)]
    found = choice_scores(net, rows, pad_id=reader.tokenizer.pad_token_id, batch_size=batch_size)
    for values, row in zip(found, rows, strict=True):
        assert values == pytest.approx([by_hand(net, choice) for choice in row], abs=1e-4)


def test_choices_behind_a_given_rationale(reader, net):
    turn = [{"role": "user", "content": "N4?"}]
    whole = [reader.encode(turn, f"as told before {answer}") for answer in ANSWERS]
    places = zip(*(row.answer_ids for row in whole), strict=False)
    shared = sum(1 for _ in itertools.takewhile(lambda tokens: len(set(tokens)) == 1, places))
    assert shared > 1
    rows = [dataclasses.replace(row, num_forced=shared) for row in whole]
    (found,) = choice_scores(net, [rows], pad_id=reader.tokenizer.pad_token_id)
    assert found == pytest.approx([by_hand(net, row) for row in rows], abs=1e-4)
    assert by_hand(net, rows[0]) != pytest.approx(by_hand(net, whole[0]), abs=1e-2)


# -- folders ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(kind, reader, net, tmp_path):
    net.save_pretrained(tmp_path / "raw")
    reader.tokenizer.save_pretrained(tmp_path / "raw")
    return tmp_path / "raw"


def test_a_folder_loads_and_what_is_saved_reopens(kind, folder, reader, net, tmp_path):
    config = ModelConfig(model=str(folder))
    loaded, spoken = load_model(config, CPU), load_template(config)
    assert type(loaded) is type(net)
    assert (type(spoken), spoken.start_ids, spoken.stop_ids) == (type(reader), reader.start_ids, reader.stop_ids)
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, net.state_dict()[name]), name
    save_model(loaded, spoken, tmp_path / "saved")
    again = load_model(ModelConfig(model=str(tmp_path / "saved")), CPU)
    for name, value in again.state_dict().items():
        assert torch.equal(value, net.state_dict()[name]), name
    # Whoever opens the folder without understudy gets the same answer.
    opened = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "saved").eval()
    prompt = encoded(reader)[0].prompt_ids
    # To the library, what opens an answer counts as new.
    longest = 6 + len(reader.start_ids) - 1
    out = opened.generate(torch.tensor([prompt]), max_new_tokens=longest, do_sample=False)[0].tolist()
    assert tuple(out[: len(reader.start_ids)]) == reader.start_ids
    (ours,) = generate(again, load_template(ModelConfig(model=str(tmp_path / "saved"))), [prompt], max_new_tokens=6)
    assert reader.decode(out[len(reader.start_ids) :]) == ours.text


def test_fresh_weights_of_another_size(kind, folder):
    changes = {"d_model": 32} if kind == "bart" else {"d_model": 32, "num_layers": 1, "num_decoder_layers": 1}
    config = ModelConfig(model=str(folder), init="fresh", config=changes)
    first, again = load_model(config, CPU, seed=1), load_model(config, CPU, seed=1)
    assert base_model(first).get_output_embeddings().weight.shape == (300, 32)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_merging_leaves_a_model_without_adapters_alone(net):
    assert merged(net) is net


def test_an_encoder_alone_is_refused(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertLMHeadModel(BertConfig(vocab_size=20, is_decoder=True, **sizes)).save_pretrained(tmp_path)
    assert load_model(ModelConfig(model=str(tmp_path)), CPU).config.is_decoder
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "is_decoder": False}))
    for init in ("pretrained", "fresh"):
        with pytest.raises(ModelError, match=r"\(bert\) is an encoder: it reads text and writes none") as caught:
            load_model(ModelConfig(model=str(tmp_path), init=init), CPU)
        assert "T5" in (caught.value.hint or "")
