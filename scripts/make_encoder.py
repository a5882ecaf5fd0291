"""Write `embedded:telecom-encoder`: the config of a small BERT and a WordPiece tokenizer of the knowledge base's words.

It has no weights: recipes take it with `init: fresh`.

python scripts/make_encoder.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertTokenizerFast

from understudy.data.embedded.telecom import generate_spans, statements, text_fingerprint
from understudy.files import write_json

FOLDER = Path(__file__).parents[1] / "src" / "understudy" / "models" / "embedded" / "telecom-encoder"
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SIZE = 2000


def texts() -> list[str]:
    """Statements of the knowledge base, and the training questions of the extractive set."""
    rows = generate_spans()
    return [*statements(), *sorted({row.question for row in (*rows.train, *rows.unlabelled)})]


def tokenizer() -> BertTokenizerFast:
    """A lowercase WordPiece: `[CLS] question [SEP] context [SEP]`."""
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=SIZE, special_tokens=SPECIALS, show_progress=False)
    core.train_from_iterator(texts(), trainer)
    ends = [(token, core.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return BertTokenizerFast(tokenizer_object=core, model_max_length=512)


def config(vocabulary: int) -> BertConfig:
    """Four blocks of 128 channels."""
    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=512,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        architectures=["BertForQuestionAnswering"],
    )


def main(folder: Path) -> None:
    """Write it."""
    own = tokenizer()
    folder.mkdir(parents=True, exist_ok=True)
    own.save_pretrained(folder)
    config(len(own)).save_pretrained(folder)
    write_json(folder / "provenance.json", {"weights": None, "tokenizer_texts": text_fingerprint()})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
