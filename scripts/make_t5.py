"""Write a small T5 without weights: a tokenizer of a data set's own words and a config, for `student.init: fresh`.

The tokenizer is a Unigram, trained on the training questions and on the rationales that were recorded for them;
held-out questions are not read. The architecture is that of T5 v1.1, but for the head, which is the embedding table.

    python scripts/make_t5.py --source cqa_train.json --recorded palm --out t5-small-commonsense
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from understudy.data.load import load_splits
from understudy.data.tasks import prompt_example
from understudy.knowledge.recorded import read_recorded
from understudy.recipe import DataConfig
from understudy.tokens.prompts import render_question

SPECIAL = ("<pad>", "</s>", "<unk>")


def corpus(data: DataConfig, recording: Path) -> Iterator[str]:
    """The training questions as a student reads them, and what was recorded for them."""
    train = load_splits(data).train
    for example in train:
        for task in ("predict", "explain"):
            yield render_question(prompt_example(example, task))
    for row in read_recorded(recording, train):
        if row.text:
            yield row.text


def make_tokenizer(texts: Iterator[str], size: int) -> PreTrainedTokenizerFast:
    """A Unigram tokenizer as T5 has it: spaces as ▁, a line break read as a space, </s> behind every text."""
    core = Tokenizer(models.Unigram())
    core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("\n", " ")])
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=list(SPECIAL), unk_token=SPECIAL[2], show_progress=False
    )
    core.train_from_iterator(texts, trainer)
    core.post_processor = processors.TemplateProcessing(single=f"$A {SPECIAL[1]}", special_tokens=[(SPECIAL[1], 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=SPECIAL[0],
        eos_token=SPECIAL[1],
        unk_token=SPECIAL[2],
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def make_config(vocabulary: int, width: int, layers: int, dropout: float) -> T5Config:
    """A gated T5 with heads of 32 and an inner layer 2.5 times as wide."""
    return T5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=32,
        d_ff=5 * width // 2,
        num_layers=layers,
        num_heads=width // 32,
        dropout_rate=dropout,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=True,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
        architectures=["T5ForConditionalGeneration"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True, help="file of questions")
    parser.add_argument("--recorded", type=Path, required=True, help="folder of recorded outputs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dev", type=float, default=0.05, help="as `data.dev` of the recipe")
    parser.add_argument("--test", type=float, default=0.1, help="as `data.test` of the recipe")
    parser.add_argument("--vocabulary", type=int, default=4000)
    parser.add_argument("--width", type=int, default=128, help="a multiple of 32")
    parser.add_argument("--layers", type=int, default=3, help="of the encoder, and of the decoder")
    parser.add_argument("--dropout", type=float, default=0.1)
    args = parser.parse_args()
    data = DataConfig(source=args.source, dev=args.dev, test=args.test)
    tokenizer = make_tokenizer(corpus(data, args.recorded), args.vocabulary)
    config = make_config(len(tokenizer), args.width, args.layers, args.dropout)
    tokenizer.save_pretrained(args.out)
    config.save_pretrained(args.out)
    parameters = T5ForConditionalGeneration(config).num_parameters()
    print(f"wrote a T5 of {parameters:,} parameters, {len(tokenizer):,} entries, to {args.out}")


if __name__ == "__main__":
    main()
