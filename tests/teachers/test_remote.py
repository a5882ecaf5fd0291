"""A teacher on a server says what the same model says in this process, in each way that servers score prompts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from support import tiny
from support.teacher_server import TeacherServer
from understudy.completers import openai_completer
from understudy.completers.capabilities import find_out
from understudy.completers.scoring import packed, unpacked
from understudy.completers.token_texts import TokenTexts
from understudy.errors import TeacherError
from understudy.files import cache_folder
from understudy.recipe import TeacherConfig
from understudy.teachers.local import LocalTeacher
from understudy.teachers.remote import RemoteTeacher, whole_rows
from understudy.teachers.signals import TopK
from understudy.training.remote import remote_teacher, trial_ids
from understudy.types import Batch, Gives

K = 12


@pytest.fixture(scope="module")
def made() -> tiny.Pair:
    return tiny.pair("kd", lora=False)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(openai_completer, "_LONGEST_BACKOFF", 0.01)


def section(server: TeacherServer, **fields: Any) -> TeacherConfig:
    options = {"k": K, "timeout": 20.0, "api_key_env": "", "max_retries": 2, **fields}
    return TeacherConfig(model="served", base_url=server.base_url, tokenizer="-", **options)


def asked(server: TeacherServer, made: tiny.Pair, temperature: float = 1.0, **fields: Any) -> RemoteTeacher:
    return remote_teacher(section(server, **fields), made.teacher_template, temperature=temperature, account="a run")


def batches(made: tiny.Pair) -> Iterator[Batch]:
    rows = made.rows("kd")
    for start in range(0, len(rows), 4):
        yield made.collator("kd")(rows[start : start + 4])


def local(made: tiny.Pair, batch: Batch) -> torch.Tensor:
    """`[N, V]` log-probabilities."""
    states: Any = LocalTeacher(made.teacher).signal(batch).states
    return states.head.logits(states.hidden).float().log_softmax(-1)


@pytest.mark.parametrize("dialect", ["vllm", "sglang", "echo"])
def test_what_a_server_says_is_what_the_model_says(made: tiny.Pair, dialect: str) -> None:
    with TeacherServer(made.teacher, made.teacher_template, dialect=dialect) as server:
        teacher = asked(server, made)
        assert teacher.gives is Gives.TOP_K
        for batch in batches(made):
            signal, logp = teacher.signal(batch), local(made, batch)
            assert signal.ids.shape == (len(logp), K)
            torch.testing.assert_close(signal.logp, logp.gather(1, signal.ids), atol=1e-5, rtol=0)
            rest = logp.exp().scatter(1, signal.ids, 0.0).sum(-1).log()
            torch.testing.assert_close(signal.log_tail, rest, atol=1e-4, rtol=0)
            assert signal.lengths == LocalTeacher(made.teacher).signal(batch).lengths
            if dialect != "echo":  # By their texts not every token can be named.
                assert torch.equal(signal.ids, logp.topk(K).indices)
            else:
                texts = TokenTexts(made.teacher_template)
                named = torch.tensor(sorted(texts.ids.values()))
                assert torch.equal(signal.ids, named[logp[:, named].topk(K).indices])


def test_it_is_sent_the_token_ids_of_each_row(made: tiny.Pair) -> None:
    batch = next(batches(made))
    with TeacherServer(made.teacher, made.teacher_template) as server:
        asked(server, made).signal(batch)
        sent = [tuple(body["prompt"]) for _, body in server.asked[1:]]
    rows = made.rows("kd")[:4]
    assert sorted(sent) == sorted(tuple(row.teacher.ids) for row in rows)
    assert sorted(whole_rows(batch)) == sorted(sent)
    assert {body["prompt_logprobs"] for _, body in server.asked} == {K}


def test_nothing_is_asked_twice(made: tiny.Pair) -> None:
    """By another run, too, and when the server is gone."""
    batch = next(batches(made))
    with TeacherServer(made.teacher, made.teacher_template) as server:
        first = asked(server, made).signal(batch)
        before = server.scored
        again = asked(server, made).signal(batch)
        assert server.scored == before == 5
        config = section(server)
    gone = remote_teacher(config, made.teacher_template, account="another run").signal(batch)
    for signal in (again, gone):
        assert torch.equal(signal.ids, first.ids)
        assert torch.equal(signal.logp, first.logp)
    assert (cache_folder("teacher") / "completions.sqlite").is_file()


def test_a_budget_ends_it_in_one_line(made: tiny.Pair) -> None:
    batch = next(batches(made))
    with TeacherServer(made.teacher, made.teacher_template) as server:
        with pytest.raises(TeacherError, match=r"says nothing of row fact-\d: budget: 3 of 3 calls are spent"):
            asked(server, made, max_calls=3).signal(batch)
        assert server.scored == 3


@pytest.mark.parametrize("dialect", ["vllm", "sglang", "echo"])
def test_another_number_of_tokens_is_refused(made: tiny.Pair, dialect: str) -> None:
    with (
        TeacherServer(made.teacher, made.teacher_template, dialect=dialect, extra=5) as server,
        pytest.raises(TeacherError, match=r"tokens were sent, and the server counted"),
    ):
        asked(server, made)


def test_fewer_tokens_than_asked_for_are_refused(made: tiny.Pair) -> None:
    with (
        TeacherServer(made.teacher, made.teacher_template, fewer=5) as server,
        pytest.raises(TeacherError, match=r"gave \d of the 12 likeliest tokens"),
    ):
        asked(server, made)


def test_a_server_that_scores_no_prompts_is_named_with_each_reason(made: tiny.Pair) -> None:
    with (
        TeacherServer(made.teacher, made.teacher_template, dialect="none") as server,
        pytest.raises(TeacherError, match=r"served does not score prompts: vLLM's .* SGLang's .* echo") as error,
    ):
        asked(server, made)
    assert "vLLM, SGLang or llama-cpp-python" in error.value.hint


def test_a_server_that_is_not_there_is_told_from_one_that_cannot(made: tiny.Pair) -> None:
    with TeacherServer(made.teacher, made.teacher_template) as server:
        config = section(server)
    with pytest.raises(TeacherError, match="does not answer: connection") as error:
        remote_teacher(config, made.teacher_template)
    assert error.value.retryable


def test_the_key_comes_from_the_environment(made: tiny.Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    with TeacherServer(made.teacher, made.teacher_template, key="sk-0123456789abcdef") as server:
        with pytest.raises(TeacherError, match="wrong key") as error:
            asked(server, made)
        assert "sk-" not in str(error.value)
        monkeypatch.setenv("TEACHER_KEY", "sk-0123456789abcdef")
        asked(server, made, api_key_env="TEACHER_KEY").signal(next(batches(made)))


def test_renormalised_tokens_are_a_target_at_any_temperature(made: tiny.Pair) -> None:
    batch = next(batches(made))
    with TeacherServer(made.teacher, made.teacher_template) as server:
        signal = asked(server, made, temperature=2.0, tail="renormalise").signal(batch)
    top = local(made, batch).topk(K)
    weights = top.values.double().exp().sqrt()
    torch.testing.assert_close(signal.logp.double().exp(), weights / weights.sum(-1, keepdim=True), atol=1e-6, rtol=0)
    assert signal.temperature == 2.0
    assert signal.log_tail.isneginf().all()


@pytest.mark.parametrize(
    ("dialect", "words"),
    [
        ("vllm", "by vLLM's prompt_logprobs"),
        ("sglang", "by SGLang's /generate"),
        ("echo", "by completions with echo"),
        ("none", ""),
    ],
)
def test_what_a_server_can_do_is_found_out(made: tiny.Pair, dialect: str, words: str) -> None:
    template = made.teacher_template
    with TeacherServer(made.teacher, template, dialect=dialect, ids=dialect != "echo") as server:
        found = find_out(section(server).endpoint, TokenTexts(template), trial_ids(template), [1, 4, K])
    assert found.chat
    assert found.continues is found.written is (dialect != "echo")
    assert found.full is (dialect in ("vllm", "sglang"))
    parts = found.words
    assert parts[0] == "text"
    assert [part for part in parts if "given prompt" in part] == (
        [f"log-probabilities of a given prompt (k = {K}, {words})"] if words else []
    )


def test_the_largest_k_is_found_where_a_server_crashes(made: tiny.Pair) -> None:
    template = made.teacher_template
    with TeacherServer(made.teacher, template, crash=10) as server:
        found = find_out(section(server).endpoint, TokenTexts(template), trial_ids(template), [1, 5, 10, 20])
    assert found.k == 5
    assert "k = 10: server: 500: CUDA error" in found.reasons["k"]


def test_scores_come_back_as_they_were_packed() -> None:
    places = [([(7, -0.25), (2, -1.5)], -0.25), ([(1, -0.125), (9, -3.0)], -8.0)]
    back = unpacked(packed(places), 2, 2)
    assert back.ids == ((7, 2), (1, 9))
    assert back.logp == ((-0.25, -1.5), (-0.125, -3.0))
    assert back.chosen == (-0.25, -8.0)


def test_a_student_learns_from_a_server_what_it_learns_here(made: tiny.Pair, tmp_path: Path) -> None:
    class Likeliest:
        """The same K tokens of the same model, in this process."""

        gives = Gives.TOP_K

        def signal(self, batch: Batch) -> TopK:
            top, tokens = local(made, batch).topk(K), batch["teacher"]  # pyright: ignore
            lengths = tuple(tokens["target_mask"].sum(1).tolist())
            return TopK(top.indices, top.values, tokens["target_ids"], lengths)

    def loss(teacher: Any, folder: str) -> float:
        fresh = tiny.pair("kd", lora=False)
        trainer = tiny.trainer(tmp_path / folder, "kd", made=fresh, teacher=teacher, steps=3, loss_temperature=1.0)
        return trainer.train().training_loss

    with TeacherServer(made.teacher, made.teacher_template) as server:
        remote = loss(asked(server, made), "remote")
    assert remote == pytest.approx(loss(Likeliest(), "here"), abs=1e-5)
