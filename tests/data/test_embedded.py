"""The embedded telecom data set and the base weights that were made for it."""

from __future__ import annotations

from collections import Counter
from importlib import resources
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from understudy.data.embedded import telecom
from understudy.data.embedded.telecom import knowledge
from understudy.errors import ConfigError, DataError
from understudy.files import read_json
from understudy.tokens.prompts import messages, render_question
from understudy.types import Example, Splits

WEIGHTS = Path(str(resources.files("understudy.models"))) / "embedded"
MODELS = ("telecom-teacher", "telecom-student", "telecom-student-other")


@pytest.fixture(scope="module")
def splits() -> Splits:
    return telecom.generate()


@pytest.fixture(scope="module")
def facts() -> dict[str, telecom.Fact]:
    return {fact.id: fact for fact in telecom.load_facts()}


def rows_of(splits: Splits) -> dict[str, tuple[Example, ...]]:
    return {name: getattr(splits, name) for name in ("train", "unlabelled", "dev", "test")}


def asked(rows: tuple[Example, ...]) -> set[str]:
    return {row.question.lower() for row in rows}


def kinds(rows: tuple[Example, ...]) -> Counter[str]:
    return Counter(row.meta["kind"] for row in rows)


def test_same_seed_same_rows_other_seed_other_rows(splits):
    assert telecom.generate() == splits
    other = telecom.generate(seed=1)
    assert [row.id for row in other.train] != [row.id for row in splits.train]
    assert other.test != splits.test


def test_enough_facts_each_with_a_specification():
    facts = telecom.load_facts()
    assert len(facts) >= 450
    assert len(telecom.core_facts()) >= 450
    assert all(fact.spec and fact.answer and fact.subject for fact in facts)
    assert len({(fact.relation, fact.subject.lower()) for fact in facts}) == len(facts)


def test_counts_per_kind_and_role(splits):
    counts = {name: kinds(rows) for name, rows in rows_of(splits).items()}
    assert sum(sum(count.values()) for count in counts.values()) >= 3000
    assert all(counts["test"][kind] >= 200 for kind in telecom.KINDS)
    assert all(counts["dev"][kind] >= 40 for kind in telecom.KINDS)
    assert counts["train"]["two_step"] == counts["unlabelled"]["two_step"] == 0
    assert len(splits.unlabelled) > 3 * len(splits.train)
    assert splits.notes["kinds"]["test"] == dict(counts["test"])


def test_roles_answer_what_they_should(splits):
    rows = rows_of(splits)
    assert all(row.labelled for name in ("train", "dev", "test") for row in rows[name])
    assert not any(row.labelled for row in splits.unlabelled)
    assert all(row.meta["gold_fact"] for row in splits.train)
    assert not any(row.meta["gold_fact"] for row in splits.unlabelled)
    ids = [row.id for part in rows.values() for row in part]
    assert len(ids) == len(set(ids))


def test_held_out_questions_stand_nowhere_else(splits):
    seen = asked(splits.train) | asked(splits.unlabelled)
    assert not seen & asked(splits.test)
    assert not seen & asked(splits.dev)
    assert not asked(splits.dev) & asked(splits.test)
    prompts = [{render_question(row) for row in part} for part in rows_of(splits).values()]
    assert sum(map(len, prompts)) == len(set().union(*prompts))


def test_pretraining_reads_no_held_out_question(splits):
    text = "\n".join(telecom.statements()).lower()
    questions = asked((*telecom.known_questions(), *telecom.invented_readings(2000, seed=5)))
    for row in (*splits.dev, *splits.test):
        assert row.question.lower() not in text
        assert row.question.lower() not in questions
    core = {fact.id for fact in telecom.core_facts()}
    assert not any(example.id.split(":")[0] in core for example in telecom.seed_questions())


def test_statements_cover_every_core_fact_and_compose_none(splits):
    texts = telecom.statements(seed=3)
    assert sorted(texts) == sorted(telecom.statements(seed=4))
    assert texts != telecom.statements(seed=4)
    assert len(texts) == 4 * (len(telecom.core_facts()) + len(telecom.seed_facts()))
    relations = telecom.load_relations()
    for fact in telecom.core_facts():
        stated = {s.format(subject=fact.subject, answer=fact.answer) for s in relations[fact.relation].statements}
        assert stated <= set(texts)
    joined = "\n".join(texts)
    facts = {fact.id: fact for fact in telecom.load_facts()}
    for row in (row for row in splits.test if row.meta["kind"] == "two_step"):
        first = facts[row.meta["fact"][0]]
        noun = relations[first.relation].noun.format(subject=first.subject)
        assert noun in row.question
        assert f"{noun} {row.answers[0]}" not in joined


def test_two_step_answers_follow_from_their_two_facts(splits, facts):
    relations = telecom.load_relations()
    rows = [row for row in (*splits.dev, *splits.test) if row.meta["kind"] == "two_step"]
    for row in rows:
        first, second = (facts[name] for name in row.meta["fact"])
        assert first.answer == second.subject
        assert relations[first.relation].answer_type == relations[second.relation].subject_type
        assert row.answers == second.answers
        assert first.subject in row.question
        assert row.meta["relation"] == f"{first.relation}>{second.relation}"


def test_context_states_the_fact_among_others(splits, facts):
    relations = telecom.load_relations()
    for row in (row for part in rows_of(splits).values() for row in part if row.meta["kind"] == "context"):
        fact = facts[row.meta["fact"][0]]
        said = [s.format(subject=fact.subject, answer=fact.answer) for s in relations[fact.relation].statements]
        assert sum(sentence in row.context for sentence in said) == 1
        assert len(row.context) > len(max(said, key=len))


def test_choices_are_four_of_one_class_with_one_right(splits, facts):
    relations = telecom.load_relations()
    by_class: dict[str, set[str]] = {}
    for fact in facts.values():
        by_class.setdefault(relations[fact.relation].answer_type, set()).add(fact.answer)
    places = Counter()
    for row in (row for row in (*splits.train, *splits.dev, *splits.test) if row.meta["kind"] == "choice"):
        fact = facts[row.meta["fact"][0]]
        assert len({choice.lower() for choice in row.choices}) == 4
        assert set(row.choices) & set(fact.answers) == set(row.answers) == {fact.answer}
        assert set(row.choices) <= by_class[relations[fact.relation].answer_type]
        places[row.choices.index(fact.answer)] += 1
    assert min(places.values()) > 0.5 * max(places.values())


@settings(deadline=None, max_examples=20)
@given(share=st.floats(0.01, 1.0), seed=st.integers(0, 50))
def test_gold_share(share, seed):
    gold = telecom.gold_facts(share, seed)
    core = telecom.core_facts()
    relations = {fact.relation for fact in core}
    assert len(gold) == max(len(relations), round(share * len(core)))
    assert {fact.relation for fact in core if fact.id in gold} == relations


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5])
def test_gold_share_out_of_range_is_refused(share):
    with pytest.raises(ConfigError, match="gold_share"):
        telecom.generate(gold_share=share)


def test_all_facts_can_be_asked():
    everything = telecom.generate(per_relation=None)
    named = {row.meta["fact"][0] for row in everything.test if row.meta["kind"] == "phrasing"}
    assert named == {fact.id for fact in telecom.load_facts()}


def test_held_out_wordings_are_the_ones_the_others_cover():
    questions = ["What is the port of {subject}?", "Whither does {subject} harken?", "Which port is that of {subject}?"]
    questions += [f"Wording number {i} asks, oddly, for {{subject}}?" for i in "abcdef"]
    ordered = knowledge.held_out_last(questions, ["The port of {subject} is {answer}."])
    assert sorted(ordered) == sorted(questions)
    assert "Whither does {subject} harken?" in ordered[:6]


def test_unknown_relation_names_file_and_line(tmp_path, monkeypatch):
    (tmp_path / "facts").mkdir()
    (tmp_path / "facts" / "odd.csv").write_text("id,relation,subject,answer,aliases,spec\nx,no_such,a,b,,TS 1\n")
    monkeypatch.setattr(knowledge, "FOLDER", tmp_path)
    with pytest.raises(DataError, match=r"odd\.csv:2: unknown relation 'no_such'"):
        knowledge.load_facts.__wrapped__()


@pytest.mark.parametrize("name", MODELS)
def test_weights_load_and_give_a_finite_loss(name, splits):
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / name)
    model = AutoModelForCausalLM.from_pretrained(WEIGHTS / name, dtype=torch.float32)
    assert len(tokenizer) == model.config.vocab_size
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    text = "".join(f"<|begin|>{sentence}<|end|>" for sentence in telecom.statements()[:8])
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        loss = model(input_ids=ids, labels=ids).loss.item()
        shuffled = ids[:, torch.randperm(ids.shape[1], generator=torch.Generator().manual_seed(0))]
        scrambled = model(input_ids=shuffled, labels=shuffled).loss.item()
    assert loss < 2.0 < scrambled


@pytest.mark.parametrize("name", MODELS)
def test_provenance_names_what_made_the_weights(name):
    provenance = read_json(WEIGHTS / name / "provenance.json")
    model = AutoModelForCausalLM.from_pretrained(WEIGHTS / name)
    assert provenance["script"] == "scripts/pretrain_embedded.py"
    assert provenance["text"] == telecom.text_fingerprint()
    assert provenance["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert {"seed", "steps", "final_loss", "torch"} <= set(provenance)


def test_weights_are_small():
    files = [path for name in MODELS for path in (WEIGHTS / name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 8e6


@pytest.mark.parametrize("name", MODELS)
def test_tokenizers_are_lossless(name, splits):
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / name)
    texts = [*telecom.statements(), *(render_question(row) for row in splits.test)]
    texts += [answer for row in splits.test for answer in row.answers]
    for text, ids in zip(texts, tokenizer(texts)["input_ids"], strict=True):
        assert tokenizer.decode(ids) == text


@settings(deadline=None, max_examples=50)
@given(text=st.text(max_size=40).filter(lambda text: not text.startswith(" ")))
def test_tokenizers_are_lossless_on_any_text(text):
    for name in ("telecom-teacher", "telecom-student-other"):
        tokenizer = _tokenizer(name)
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_other_vocabulary_is_another_one():
    teacher, student, other = (_tokenizer(name) for name in MODELS)
    assert teacher.get_vocab() == student.get_vocab()
    assert len(other) != len(teacher)
    texts = telecom.statements()[:100]
    differing = sum(teacher.tokenize(text) != other.tokenize(text) for text in texts)
    assert differing == len(texts)
    assert teacher.tokenize("1920") == ["Ġ", "1", "9", "2", "0"]


@pytest.mark.parametrize("name", MODELS)
def test_chat_template_adds_few_tokens_and_ends_the_answer(name, splits):
    tokenizer = _tokenizer(name)
    turns = messages(splits.train[0])
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(
        [*turns, {"role": "assistant", "content": splits.train[0].answers[0]}], tokenize=False
    )
    assert whole.startswith(prompt)
    ids = tokenizer(whole)["input_ids"]
    assert ids[-1] == tokenizer.eos_token_id
    assert len(tokenizer(prompt)["input_ids"]) == len(tokenizer(turns[0]["content"])["input_ids"]) + 2


def _tokenizer(name: str):
    return _CACHE.setdefault(name, AutoTokenizer.from_pretrained(WEIGHTS / name))


_CACHE: dict[str, object] = {}
