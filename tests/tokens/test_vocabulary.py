"""What tokens write, and which token of one vocabulary is nearest to one of another."""

import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from support.tiny import tokenizer
from understudy.tokens import vocabulary
from understudy.tokens.vocabulary import byte_characters, token_bytes, vocabulary_map


def plain(*tokens):
    """A tokenizer of given tokens, the first of which ends a text."""
    core = Tokenizer(models.WordLevel({token: n for n, token in enumerate(tokens)}, unk_token=tokens[0]))
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=tokens[0])


def test_bytes_of_a_byte_level_vocabulary():
    made = tokenizer(300)
    found = token_bytes(made)
    ids = made("Ünï 🙂 N2", add_special_tokens=False)["input_ids"]
    assert b"".join(found[i] for i in ids).decode() == "Ünï 🙂 N2"
    assert found[made.eos_token_id] is None
    assert len(set(byte_characters().values())) == 256


def test_bytes_of_sentence_pieces():
    assert token_bytes(plain("</s>", "▁the", "<0xF0>", "é"))[1:] == [b" the", b"\xf0", "é".encode()]


def test_the_nearest_is_the_nearest(tmp_path, monkeypatch):
    """Against every distance there is."""
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path))
    draw = np.random.default_rng(0)
    words = [sorted({"".join(draw.choice(list("abc"), n)) for n in draw.integers(1, 9, 60)}) for _ in "st"]
    student, teacher = plain("</s>", *words[0]), plain("<end>", *words[1], "zzzz")
    found = vocabulary_map(student, teacher)
    assert found.nearest[0] == found.exact[0] == 0
    assert found.nearest[-1] == -1  # no byte in common with any
    for i, word in enumerate(words[1], start=1):
        distances = [Levenshtein.distance(word, other) for other in words[0]]
        if min(distances) < len(word):
            assert found.nearest[i] == distances.index(min(distances)) + 1
        assert (found.exact[i] >= 0) == (word in words[0])


def test_a_part_says_of_its_ids_what_the_whole_says_and_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path))
    pair = tokenizer(300), tokenizer(340, end="<|end|>", pad="<|pad|>")
    ids = [0, 5, *range(300, 320)]
    part, whole = vocabulary_map(*pair, only=ids), vocabulary_map(*pair)
    assert (part.nearest[ids] == whole.nearest[ids]).all()
    assert (whole.nearest[ids] != whole.exact[ids]).any()
    assert (part.exact == whole.exact).all()
    assert not (part.nearest == whole.nearest).all()


def test_tokens_that_are_added_later_are_seen():
    tokens = tokenizer(300)
    before = len(token_bytes(tokens))
    tokens.add_tokens(["<tool>"])
    assert token_bytes(tokens)[before:] == [b"<tool>"]
    tokens.add_special_tokens({"additional_special_tokens": ["<tool>"]})
    assert token_bytes(tokens)[before:] == [None]


def test_it_is_computed_once(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path))
    pair = tokenizer(300), tokenizer(340, end="<|end|>", pad="<|pad|>")
    first = vocabulary_map(*pair)
    monkeypatch.setattr(vocabulary, "_map", None)
    again = vocabulary_map(*pair)
    assert (first.nearest == again.nearest).all()
    assert (first.exact == again.exact).all()
    with pytest.raises(TypeError):
        vocabulary_map(pair[1], pair[0])


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "file"))
    made = tokenizer(300)
    assert (vocabulary_map(made, made).exact == np.arange(len(made))).all()
