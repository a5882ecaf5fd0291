"""METEOR against nltk, with and without synonyms, and what its formula says of a perfect answer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nltk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.tokenize import wordpunct_tokenize
from nltk.translate.meteor_score import meteor_score, single_meteor_score

from support.golden import NUMBERS, SENTENCES, THESAURUS
from understudy.metrics import score
from understudy.metrics.meteor import meteor_words, sentence_meteor, synonyms_of

XQUAD = Path(__file__).resolve().parents[2] / ".." / "shared/data/qa/xquad"
CLOSE = {"rel": 1e-9, "abs": 1e-12}


@dataclass(frozen=True)
class Lemma:
    text: str

    def name(self) -> str:
        return self.text


@dataclass(frozen=True)
class Synset:
    words: tuple[str, ...]

    def lemmas(self) -> list[Lemma]:
        return [Lemma(word) for word in self.words]


@dataclass(frozen=True)
class Thesaurus:
    """A WordNet of a few lines, with the two calls that METEOR makes of the real one."""

    sets: tuple[tuple[str, ...], ...] = ()

    def synsets(self, word: str) -> list[Synset]:
        return [Synset(names) for names in self.sets if word in names]


EMPTY = Thesaurus()
SMALL = Thesaurus((("car", "auto", "motor_car"), ("start", "begin", "commenc"), ("auto", "automat"), ("run", "go")))


def nltk_score(prediction: str, references: list[str], wordnet: Thesaurus) -> float:
    return meteor_score(
        [wordpunct_tokenize(one) for one in references], wordpunct_tokenize(prediction), wordnet=wordnet
    )


ODD = [
    ("", [""]),
    ("", ["a word"]),
    ("a word", ["", "words"]),
    ("   ", ["!!!"]),
    ("Ünïcode – naïve CAFÉ", ["ünïcode – naïve café", "x"]),
    ("İstanbul ǅ ﬁne", ["i̇stanbul ǆ fine"]),
    ("核心网 AMF 5G", ["核心网 SMF 5g"]),
    ("the the the cat", ["the cat the", "cats"]),
    ("registering registers registered", ["register registration registering"]),
    ("It is a guide to action which ensures", ["It is the guiding principle which guarantees", "a guide to actions"]),
]


@pytest.mark.parametrize(("prediction", "references"), ODD)
def test_odd_text_equals_nltk(prediction: str, references: list[str]) -> None:
    ours = score([prediction], [references], metrics=["meteor"])["meteor"]
    assert ours.value == pytest.approx(nltk_score(prediction, references, EMPTY), **CLOSE)


def test_real_text_equals_nltk() -> None:
    path = XQUAD / "xquad.en.json"
    if not path.exists():
        pytest.skip("the shared question answering data is not here")
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    contexts = [paragraph["context"] for article in articles for paragraph in article["paragraphs"]][:60]
    predictions = [text[: len(text) // 2] for text in contexts]
    references = [[text, other] for text, other in zip(contexts, contexts[1:] + contexts[:1], strict=True)]
    ours = score(predictions, references, metrics=["meteor"])["meteor"]
    theirs = [nltk_score(one, right, EMPTY) for one, right in zip(predictions, references, strict=True)]
    assert ours.per_example == pytest.approx(theirs, **CLOSE)
    assert ours.value == pytest.approx(sum(theirs) / len(theirs), **CLOSE)


WORDS = "the car auto autos automatic start starts begins commenced motor cars run goes , ."
vocabulary = st.sampled_from(WORDS.split())
sentences = st.lists(vocabulary, max_size=10).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(sentences | st.text(max_size=20), sentences | st.text(max_size=20))
def test_any_text_equals_nltk(prediction: str, reference: str) -> None:
    theirs = single_meteor_score(wordpunct_tokenize(reference), wordpunct_tokenize(prediction), wordnet=EMPTY)
    assert sentence_meteor(meteor_words(prediction), meteor_words(reference)) == pytest.approx(theirs, **CLOSE)


@settings(max_examples=200, deadline=None)
@given(sentences, sentences)
def test_synonyms_match_as_in_nltk(prediction: str, reference: str) -> None:
    theirs = single_meteor_score(wordpunct_tokenize(reference), wordpunct_tokenize(prediction), wordnet=SMALL)
    assert sentence_meteor(meteor_words(prediction), meteor_words(reference), synonyms_of(SMALL)) == pytest.approx(
        theirs, **CLOSE
    )


def test_a_synonym_counts() -> None:
    assert sentence_meteor(["car"], ["auto"]) == 0
    assert sentence_meteor(["car"], ["auto"], synonyms_of(SMALL)) == 0.5


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["amf", "smf", "upf"]), min_size=1, max_size=9))
def test_a_perfect_answer_of_m_words(perfect: list[str]) -> None:
    text = " ".join(perfect)
    expected = 1 - 0.5 / len(perfect) ** 3
    assert score([text], [[text]], metrics=["meteor"])["meteor"].value == pytest.approx(expected)


@pytest.fixture(params=["folder", "archive"])
def nltk_data(request, tmp_path: Path) -> Path:
    """A WordNet of one synset in WordNet's own format, unpacked or as nltk downloads it."""
    folder = tmp_path / "corpora" / "wordnet"
    folder.mkdir(parents=True)
    for part in ("noun", "verb", "adj", "adv"):
        for name in (f"index.{part}", f"data.{part}", f"{part}.exc"):
            (folder / name).write_text("")
    for name in ("index.sense", "cntlist.rev"):
        (folder / name).write_text("")
    (folder / "lexnames").write_text("00\tnoun.artifact\t1\n")
    (folder / "data.noun").write_text("00000000 00 n 02 car 0 auto 0 000 | a vehicle\n")
    (folder / "index.noun").write_text("auto n 1 0 1 0 00000000  \ncar n 1 0 1 0 00000000  \n")
    (folder / "data.adj").write_text("  1 WordNet 3.0 Copyright\n")
    if request.param == "archive":
        shutil.make_archive(str(folder), "zip", folder.parent, "wordnet")
        shutil.rmtree(folder)
    return tmp_path


def test_an_installed_wordnet_is_used(nltk_data: Path) -> None:
    code = """
from understudy.metrics import score
found = score(["the car", "a"], [["the auto"], ["b"]], metrics=["meteor"])["meteor"]
print(found.per_example, found.signature)
"""
    environment = {**os.environ, "NLTK_DATA": str(nltk_data)}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(0.9375, 0.0) ")
    assert "|stages:exact,stem:porter,synonym|wordnet:3.0|" in done.stdout


def test_signature_says_whether_there_is_a_wordnet() -> None:
    signature = score(["a"], [["a"]], metrics=["meteor"])["meteor"].signature
    assert f"nltk:{nltk.__version__}" in signature
    assert "tokenizer:wordpunct" in signature
    assert ("|wordnet:absent|" in signature) == (",synonym|" not in signature)


def test_the_third_stage_gives_the_numbers_of_nltk_with_an_invented_wordnet() -> None:
    """Written down once; the tests above ask whichever nltk is installed."""
    theirs = NUMBERS["meteor"]["numbers"]
    for name, sets in (("with_synonyms", THESAURUS), ("without", ())):
        synonyms = synonyms_of(Thesaurus(sets))
        ours = [
            sentence_meteor(meteor_words(prediction), meteor_words(reference), synonyms)
            for prediction, reference in SENTENCES
        ]
        assert ours == pytest.approx(theirs[name], rel=1e-6)
    assert theirs["with_synonyms"] != theirs["without"]
