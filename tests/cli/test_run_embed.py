"""Whole runs of models that make vectors, from a file of queries and passages to the report, by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from sentence_transformers import SentenceTransformer
from sklearn.metrics import ndcg_score

from support import tiny_embed
from support.house import House, training
from understudy.files import read_json, read_jsonl
from understudy.run import Run


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two plain encoders of one tokenizer, the larger of four blocks."""
    folder = tmp_path_factory.mktemp("encoders")
    tiny_embed.folder(folder / "teacher", width=24, layers=4, seed=1)
    tiny_embed.folder(folder / "student", seed=2)
    return folder


@pytest.fixture
def house(tmp_path: Path, encoders: Path) -> House:
    """Ninety-six queries for thirty-two passages, a corpus of forty, and texts of which nobody knows a passage."""
    project = House(tmp_path, encoders)
    passages = [f"{text} It is written in book {n}." for text in tiny_embed.PASSAGES for n in range(4)]
    rows = [
        {
            "id": f"r{n}-{form}",
            "query": f"{start} {tiny_embed.DUTIES[n // 4]} in book {n % 4}?",
            "positive": passages[n],
            "negatives": [passages[(n + 5) % 32]],
        }
        for n in range(32)
        for form, start in enumerate(("Who keeps", "What of", "Where is"))
    ]
    lines = {
        "pairs.jsonl": rows,
        "corpus.jsonl": [
            *({"passage": text} for text in passages),
            *({"passage": f"Nothing of {n}."} for n in range(8)),
        ],
        "texts.jsonl": [{"text": f"About {duty}."} for duty in tiny_embed.DUTIES],
    }
    for name, content in lines.items():
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    project.recipe["data"] = {
        "source": str(tmp_path / "pairs.jsonl"),
        "corpus": str(tmp_path / "corpus.jsonl"),
        "unlabelled_source": str(tmp_path / "texts.jsonl"),
        "format": {"unlabelled": "retrieval"},
        "test": 0.3,
        "max_length": 32,
    }
    project.recipe["teacher"] |= {"kind": "embed", "sft": training(steps=6)}
    project.recipe["student"] |= {"kind": "embed", "embedding": {"query_prefix": "query: "}}
    project.recipe["distil"] = training(steps=6)
    project.recipe["evaluate"] |= {"metrics": ["ndcg@10", "mrr@10", "recall@10", "exact_match"]}
    project.recipe["evaluate"] |= {"arms": ["sft", "seqkd", "distilled"]}
    return project


def test_a_run_goes_to_its_report(house: House, command) -> None:
    done = command("run", str(house.write_recipe()))
    assert done.code == 0, done.err
    run = Run(house.run_folder())
    table = read_json(run.folder / "scores.json")["overall"]["table"]
    corpus = [row["passage"] for row in read_jsonl(house.folder / "corpus.jsonl")]
    for arm in ("teacher", "base_student", "sft", "seqkd", "distilled"):
        rows = read_jsonl(run.stage(f"predict-{arm}") / "predictions.jsonl")
        values, firsts = [], []
        for row in rows:
            ranking = [text for text, _ in row["candidates"]]
            assert ranking[0] == row["prediction"]
            assert len(ranking) == 10
            relevance = [[float(text in row["references"]) for text in corpus]]
            scores = [[float(-ranking.index(text)) if text in ranking else -100.0 for text in corpus]]
            values.append(ndcg_score(relevance, scores, k=10))
            firsts.append(row["prediction"] in row["references"])
        assert table[arm]["ndcg@10"]["value"] == pytest.approx(sum(values) / len(rows), abs=1e-9)
        assert table[arm]["exact_match"]["value"] == pytest.approx(sum(firsts) / len(rows), abs=1e-9)
    # Passages that most training rows have, whatever is asked: no arm's own ranking. Where the right passage stands
    # among a row's own says nothing here.
    assert table["majority"]["ndcg@10"]["value"] < 0.6
    assert table["majority"]["ndcg@10"]["value"] != table["teacher"]["ndcg@10"]["value"]
    assert not any("first" in arm for arm in table)
    compared = read_json(run.folder / "scores.json")["overall"]
    assert "ndcg@10" in json.dumps(compared)
    assert "ndcg@10" in (run.folder / "report.html").read_text(encoding="utf-8")
    card = yaml.safe_load((run.folder / "student" / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert card["pipeline_tag"] == "sentence-similarity"
    # Texts of which nobody knows a passage were looked up in the corpus, and are no gold.
    answers = read_jsonl(run.stage("answers") / "answers.jsonl")
    assert len(answers) == 8
    assert all(row["answers"][0] in corpus and row["origin"] == "teacher" for row in answers)
    # Weights are kept by the metric of the kind.
    assert "ndcg@10" in run.record("train-distilled").notes["best_of_kind"]
    # The student's folder is one of sentence-transformers, and ranks as the run did.
    theirs = SentenceTransformer(str(run.folder / "student"), device="cpu")
    found = read_jsonl(run.stage("predict-distilled") / "predictions.jsonl")
    queries = theirs.encode([row["question"] for row in found], prompt_name="query", convert_to_tensor=True)
    scores = theirs.similarity(queries, theirs.encode(corpus, prompt_name="document", convert_to_tensor=True))
    for row, own in zip(found, torch.as_tensor(scores), strict=True):
        # Of passages that are as near as rounding goes either may come first.
        assert float(own[corpus.index(row["prediction"])]) == pytest.approx(float(own.max()), abs=1e-5)


def test_a_student_that_is_cut_makes_vectors_as_its_teacher_does(house: House, command) -> None:
    house.recipe["teacher"] |= {"embedding": {"pooling": "cls", "passage_prefix": "passage: "}}
    house.recipe["student"] = {"from_teacher": {"layers": 2}}
    house.recipe["features"] = {"hidden": 0.1, "sentence": 1.0}
    house.recipe["distil"]["gold_weight"] = 0.0
    house.recipe["evaluate"] |= {"arms": ["distilled"]}
    done = command("run", str(house.write_recipe()))
    assert done.code == 0, done.err
    config = read_json(house.run_folder() / "student" / "config.json")
    assert config["num_hidden_layers"] == 2
    assert config["understudy_embedding"]["pooling"] == "cls"
    assert config["understudy_embedding"]["passage_prefix"] == "passage: "
    assert read_json(house.run_folder() / "student" / "1_Pooling" / "config.json")["pooling_mode_cls_token"]


@pytest.mark.parametrize(
    ("section", "fields", "message"),
    [
        ("distil", {"micro_batch_size": 4}, "would cut the passages that a query is compared with"),
        ("teacher", {"cache": {}}, "teacher.cache keeps what is said of a row"),
        ("data", {"corpus": "absent.jsonl"}, "data.corpus: no such file: absent.jsonl"),
        ("student", {"embedding": {"pooling": "max"}}, "student.embedding.pooling"),
    ],
)
def test_what_cannot_be_is_refused_before_any_weight(
    house: House, command, section: str, fields: dict, message: str
) -> None:
    house.recipe[section] |= fields
    refused = command("run", str(house.write_recipe()))
    assert refused.code != 0
    assert message in refused.err
    assert "Traceback" not in refused.err
    assert not list(house.folder.glob("runs/*/stages/*/model"))
