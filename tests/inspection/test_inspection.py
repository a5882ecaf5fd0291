"""`inspect` sees what is there: roles of tokens, differences, silent faults of a loss, costs."""

import dataclasses
import io
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from safetensors.torch import load_file

from support import tiny
from understudy.api import perform
from understudy.errors import ConfigError, VocabularyMismatch
from understudy.inspection import batch_rows, inspect_recipe, load_inputs, load_pair, summarise_data, take_sample
from understudy.inspection import findings as judge
from understudy.inspection.cost import peak_memory
from understudy.inspection.loss_terms import gradient_norms, measure_losses, terms_of
from understudy.inspection.reference_check import check_reference, reference_loss
from understudy.inspection.render import show_row
from understudy.inspection.time_estimate import StageEstimate, estimate_time, in_time, wall_time
from understudy.inspection.tokens import align, check_answers, compare_texts, token_rows, visible
from understudy.losses.divergences import divergence
from understudy.models.forward import forward
from understudy.pipeline.scheduler import Stage
from understudy.recipe import METHODS, Recipe, parse_recipe
from understudy.tokens.collate import ExampleTokenizer, encode_rows, move
from understudy.training.objectives.base import Objective
from understudy.training.objectives.cross_entropy import CrossEntropy
from understudy.training.objectives.output_divergence import OutputDivergence

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"
STORIES = SHARED / "data" / "models" / "stories260k"
NASTY = "[red]Which[/red] <b>function</b> \x1b[31mterminates N2?"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model folders of two vocabularies, with the same weights twice, and one data file."""
    root = tmp_path_factory.mktemp("inspected")
    other = {"end": "<|end|>", "pad": "<|pad|>"}
    for name, size, width, seed, special in (
        ("teacher", 300, 24, 1, {}),
        ("student", 300, 16, 0, {}),
        ("other", 340, 16, 0, other),
    ):
        tokenizer = tiny.tokenizer(size, **special)
        tiny.llama(len(tokenizer), width=width, seed=seed).save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    rows = [{"id": f"f{n}", "question": q, "answer": a} for n, (q, a) in enumerate(tiny.FACTS)]
    rows[0]["question"] = NASTY
    (root / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "asked.jsonl").write_text(json.dumps({"id": "u1", "question": "Who anchors mobility?"}) + "\n")
    return {path.name: path for path in root.iterdir()} | {"root": root}


def recipe_of(folders: dict[str, Path], *overrides: str, student: str = "student", teacher: str = "teacher") -> Recipe:
    """A recipe on the tiny models."""
    value = {
        "name": "tiny",
        "output": str(folders["root"] / "runs"),
        "device": "cpu",
        "data": {"source": str(folders["data.jsonl"]), "max_length": 128, "max_answer_tokens": 40},
        "teacher": {"model": str(folders[teacher])},
        "student": {"model": str(folders[student])},
        "distil": {"steps": 4, "batch_size": 4},
    }
    return parse_recipe(value, overrides)


def live_of(recipe: Recipe) -> tuple:
    texts = load_inputs(recipe)
    sample = take_sample(texts)
    return load_pair(texts, sample), texts, sample


CASES = {
    "kd": ("student", ["distil.divergence=js", "distil.loss_temperature=2.0"]),
    "kd_squared": ("student", ["distil.scale_by_temperature_squared=true", "distil.loss_temperature=2.0"]),
    "dskd": ("student", ["distil.method=dskd", "distil.loss_temperature=2.0"]),
    "masked": ("other", ["distil.method=dskd_v2", "distil.agreement_threshold=0.5"]),
    "own_counts": ("other", ["distil.method=dskd_v2", "distil.published=true", "distil.gold_weight=0.3"]),
    "own_counts_masked": (
        "other",
        ["distil.method=dskd_v2", "distil.published=true", "distil.agreement_threshold=0.5"],
    ),
    "whole_batch": ("other", ["distil.method=dskd_cma", "distil.published=true"]),
} | {
    name: ("student" if kind.one_vocabulary else "other", [f"distil.method={name}", "distil.gold_weight=0.3"])
    for name, kind in METHODS.items()
}


def test_fresh_weights_are_those_that_run_draws(folders: dict[str, Path], tmp_path: Path) -> None:
    # A rate at which no weight moves: what the stage writes is what it began with.
    still = "{steps: 1, batch_size: 4, learning_rate: 1.0e-30}"
    overrides = [f"output={tmp_path}", *(f"{side}.init=fresh" for side in ("teacher", "student"))]
    overrides += ["teacher.seed=7", "student.seed=5", f"teacher.sft={still}", f"student.sft={still}"]
    recipe = recipe_of(folders, *overrides)
    live, _, _ = live_of(recipe)
    for side, model in (("teacher", live.teacher.model), ("student", live.module.student)):
        run = perform(recipe, until=f"{side}_sft", quiet=True)
        drawn = load_file(run.stage(f"{side}_sft") / "model" / "model.safetensors")
        shown = model.state_dict()
        assert all(torch.equal(weight, shown[name]) for name, weight in drawn.items()), side
    plain = live_of(recipe_of(folders, *overrides[:3]))[0]
    assert not torch.equal(plain.teacher.model.lm_head.weight, live.teacher.model.lm_head.weight), (
        "the seed of the run draws others"
    )


# -- the whole command -----------------------------------------------------------------------------------------------


def test_inspect_shows_everything_writes_no_run_folder_and_takes_data_literally(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    recipe = recipe_of(folders, f"data.unlabelled_source={folders['asked.jsonl']}", "teacher.sft={steps: 3}")
    screen = io.StringIO()
    page = tmp_path / "inspect.html"
    recipe = recipe.model_copy(update={"distil": recipe.distil.model_copy(update={"batch_size": 12})})
    said = inspect_recipe(recipe, save=page, console=Console(file=screen, width=150))
    printed, html = screen.getvalue(), page.read_text(encoding="utf-8")
    for part in range(1, 9):
        assert f" {part}  " in printed
    assert "the fine-tuned teacher answers here" in printed
    assert "distil on gold rows only" in printed
    assert any("as it came" in finding.text for finding in said)
    assert not (folders["root"] / "runs").exists()
    texts = load_inputs(recipe)
    nasty = next(row for row in texts.splits.train + texts.splits.dev + texts.splits.test if row.question == NASTY)
    assert "\x1b" not in html
    assert "<b>" not in html
    console = Console(file=io.StringIO(), record=True, force_terminal=True, width=200)
    row = batch_rows(texts, dataclasses.replace(take_sample(texts), rows=encoded(texts, nasty)))[0]
    console.print(show_row(row))
    plain = console.export_text(styles=False)
    assert "[red]Which[/red] <b>function</b> ␛[31mterminates N2?" in plain


def encoded(texts, *examples) -> list:
    return encode_rows(list(examples), texts.student, texts.teacher)


def test_what_run_refuses_is_refused_after_showing_what_was_found(folders: dict[str, Path], tmp_path: Path) -> None:
    screen = io.StringIO()
    page = tmp_path / "inspect.html"
    with pytest.raises(VocabularyMismatch):
        inspect_recipe(recipe_of(folders, student="other"), save=page, console=Console(file=screen, width=150))
    assert "kd compares token by token and cannot be used" in screen.getvalue()
    assert "What was found" in page.read_text(encoding="utf-8")


def test_only_html_is_saved(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="HTML"):
        inspect_recipe(recipe_of(folders), save=tmp_path / "inspect.pdf")


@pytest.mark.skipif(not STORIES.is_dir(), reason="the real pretrained model is not beside the repository")
def test_a_real_teacher_and_a_fresh_student(folders: dict[str, Path]) -> None:
    recipe = parse_recipe(
        {
            "data": {"source": str(folders["data.jsonl"]), "max_length": 160, "max_answer_tokens": 40},
            "teacher": {"model": str(STORIES)},
            "student": {"model": str(STORIES), "init": "fresh", "config": {"num_hidden_layers": 2}},
            "distil": {"steps": 4, "batch_size": 4},
        }
    )
    live, texts, sample = live_of(recipe)
    opinion = check_reference(live, texts, sample)
    assert opinion.agrees
    assert summarise_data(texts).sound
    losses = measure_losses(live)
    assert losses.kl is not None
    assert losses.kl > 0.1
    assert not [finding for finding in judge.of_losses(losses, recipe) if "gradient" in finding.text]
    same = recipe.model_copy(update={"student": recipe.teacher})
    live, _, _ = live_of(same)
    warnings = judge.of_losses(measure_losses(live), same)
    assert any("same weights" in finding.text for finding in warnings)


# -- tokens ----------------------------------------------------------------------------------------------------------


def test_learned_tokens_are_exactly_the_answers_and_their_stop_token() -> None:
    pair = tiny.pair("kd", lora=False)
    rows = pair.rows("kd")
    batch = pair.collator("kd")(rows)
    tokenizer = pair.template.tokenizer
    shown = token_rows(batch["student"], batch["ids"], tokenizer)
    width = max(len(row.student.ids) for row in rows)
    for row, encoded_row, (question, answer) in zip(shown, rows, tiny.FACTS, strict=True):
        learned = "".join(piece.text for piece in row.pieces if piece.learned)
        assert learned == f" {answer}</s>"
        assert question in "".join(piece.text for piece in row.pieces if not piece.learned)
        assert [piece.learned for piece in row.pieces].index(True) == len(encoded_row.student.prompt_ids)
        assert row.pieces[-1].special
        assert row.padding == width - len(encoded_row.student.ids)


@given(st.text())
def test_what_is_shown_cannot_steer_a_terminal(text: str) -> None:
    shown = visible(text)
    assert not any((ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 or 0x202A <= ord(c) <= 0x202E for c in shown)


@given(st.text("ab \n<|>"), st.text("ab \n<|>"))
def test_compared_texts_are_whole_and_marked_only_where_they_differ(ours: str, theirs: str) -> None:
    compared = compare_texts(ours, theirs)
    assert "".join(text for text, _ in compared.student) == visible(ours)
    assert "".join(text for text, _ in compared.teacher) == visible(theirs)
    same = ["".join(text for text, differs in side if not differs) for side in (compared.student, compared.teacher)]
    assert same[0] == same[1]
    assert (compared.places == 0) == (ours == theirs)


def test_alignment_counts_and_names_the_first_difference() -> None:
    pair = tiny.pair("dskd_cma", lora=False)
    rows = pair.rows("dskd_cma")
    alignment = align(rows, pair.template.tokenizer, pair.teacher_template.tokenizer)
    assert alignment.same_targets == sum(row.student.answer_ids == row.teacher.answer_ids for row in rows) < 6
    assert alignment.student_tokens == sum(len(row.student.answer_ids) for row in rows)
    assert alignment.first_difference is not None
    assert alignment.first_difference[0] == "fact-0"
    assert alignment.first_difference[2].endswith("<|end|>")
    assert judge.of_alignment(alignment, by_position=True)[0].level == "warning"
    assert not judge.of_alignment(alignment, by_position=False)


def test_cut_answers_never_learn_to_stop() -> None:
    pair = tiny.pair("kd", lora=False)
    answers = [answer for _, answer in tiny.FACTS]
    whole = check_answers([row.student for row in pair.rows("kd")], answers, pair.template)
    assert not judge.of_answers("student", whole)
    short = tiny.DATA.model_copy(update={"max_answer_tokens": 1})
    cut = check_answers([row.student for row in pair.rows("kd", short)], answers, pair.template)
    assert cut.unstopped == len(answers)
    assert "never learns to stop" in judge.of_answers("student", cut)[0].text


def test_an_answer_that_the_tokenizer_cannot_write_is_named() -> None:
    pair = tiny.pair("kd", lora=False)
    row = ExampleTokenizer(pair.template, tiny.DATA).encode(tiny.examples(1)[0])
    found_answers = check_answers([row], ["SMF"], pair.template)
    assert "'SMF' → 'AMF'" in judge.of_answers("student", found_answers)[0].text


# -- losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", CASES)
def test_the_parts_are_the_whole_and_both_ways_agree(folders: dict[str, Path], method: str) -> None:
    student, overrides = CASES[method]
    live, texts, sample = live_of(recipe_of(folders, *overrides, student=student))
    objective, batch = live.module.objective, live.batch
    output = forward(live.module.student, batch["student"], embeddings=objective.embeddings)
    signal = live.teacher.signal(batch)
    total = objective(output, signal, batch).total
    parts = terms_of(objective, output, signal, batch)
    torch.testing.assert_close(torch.stack(list(parts.values())).sum(), total, rtol=1e-5, atol=1e-4)
    opinion = check_reference(live, texts, sample)
    assert opinion.agrees
    losses = measure_losses(live)
    assert (losses.total.objective_gradient is not None) == bool(list(objective.parameters()))
    assert not [f for f in judge.of_losses(losses, texts.recipe) if "gradient" in f.text]


@pytest.mark.parametrize("method", METHODS)
def test_a_wrong_weight_is_found_whatever_the_method(folders: dict[str, Path], method: str) -> None:
    """Each pass is laid out with half of its weights lost, so the passes themselves cannot tell."""
    student, overrides = CASES[method]
    live, texts, sample = live_of(recipe_of(folders, *overrides, student=student))
    kind = type(live.module.objective)

    class Halved(kind):
        def passes(self, student, signal, batch):
            passes = super().passes(student, signal, batch)
            step = next(passes)
            while True:
                weights = step.terms.token_weights
                terms = dataclasses.replace(step.terms, token_weights=None if weights is None else weights / 2)
                losses = yield dataclasses.replace(step, terms=terms)
                try:
                    step = passes.send(losses)
                except StopIteration:
                    return

    assert check_reference(live, texts, sample).agrees
    live.module.objective.__class__ = Halved
    opinion = check_reference(live, texts, sample)
    assert not opinion.agrees
    assert "the loss is wrong" in judge.of_reference_check(opinion)[0].text


def test_cross_entropy_with_task_weights_has_a_second_opinion() -> None:
    pair = tiny.pair("sft")
    batch = pair.collator("sft")(pair.rows("sft"))
    batch["weights"] = torch.linspace(0.5, 2.0, len(batch["ids"]))
    output = forward(pair.student, batch["student"])
    total, reference = (
        CrossEntropy()(output, None, batch).total,
        reference_loss(CrossEntropy(), output, None, batch),
    )
    torch.testing.assert_close(total, reference)
    trained = [p for p in pair.student.parameters() if p.requires_grad]
    for ours, theirs in zip(
        *(torch.autograd.grad(x, trained, retain_graph=True) for x in (total, reference)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


class Swapped(OutputDivergence):
    """Compares in the wrong direction: KL(student ‖ teacher) under the name of its reverse."""

    def forward(self, student, signal, batch):
        right, self.divergence = self.divergence, divergence("reverse_kl")
        try:
            return super().forward(student, signal, batch)
        finally:
            self.divergence = right


class Deaf(OutputDivergence):
    """Loses the student's graph on the way."""

    def forward(self, student, signal, batch):
        head = student.head.detached()
        return super().forward(dataclasses.replace(student, hidden=student.hidden.detach(), head=head), signal, batch)


def replaced(live, kind: type[Objective]):
    live.module.objective = kind(divergence("forward_kl"), temperature=1.0, gold_weight=0.5)  # pyright: ignore
    return live


def test_a_swapped_divergence_is_found(folders: dict[str, Path]) -> None:
    live, texts, sample = live_of(recipe_of(folders))
    opinion = check_reference(replaced(live, Swapped), texts, sample)
    assert not opinion.agrees
    assert "the loss is wrong" in judge.of_reference_check(opinion)[0].text
    good = check_reference(replaced(live, OutputDivergence), texts, sample)
    assert not judge.of_reference_check(good)


def test_a_deaf_objective_is_found(folders: dict[str, Path]) -> None:
    recipe = recipe_of(folders)
    live, texts, sample = live_of(recipe)
    live = replaced(live, Deaf)
    said = [finding.text for finding in judge.of_losses(measure_losses(live), recipe)]
    assert "the loss has no gradient on the student: it would not learn" in said
    opinion = check_reference(live, texts, sample)
    assert opinion.value_gap < 1e-5
    assert opinion.gradient_gap == pytest.approx(1.0)
    assert not opinion.agrees


def test_a_teacher_of_the_same_weights_is_found(folders: dict[str, Path]) -> None:
    recipe = recipe_of(folders, teacher="student")
    said = [finding.text for finding in judge.of_losses(measure_losses(live_of(recipe)[0]), recipe)]
    assert any("same weights" in text for text in said)


def test_a_teacher_worse_than_the_student_is_found_and_planned_tuning_is_said(folders: dict[str, Path]) -> None:
    recipe = recipe_of(folders)
    losses = measure_losses(live_of(recipe)[0])
    worse = dataclasses.replace(losses, teacher_gold=losses.student_gold + 1)
    better = dataclasses.replace(losses, teacher_gold=losses.student_gold - 1)
    levels = {f.level for f in judge.of_losses(worse, recipe) if "not fit" in f.text}
    assert levels == {"warning"}
    assert not [f for f in judge.of_losses(better, recipe) if "not fit" in f.text]
    tuned = recipe_of(folders, "teacher.sft={steps: 3}")
    assert {f.level for f in judge.of_losses(worse, tuned) if "not fit" in f.text} == {"note"}


def test_gold_alone_is_found_and_the_silent_term_explained(folders: dict[str, Path]) -> None:
    recipe = recipe_of(folders, "distil.gold_weight=1.0")
    live, texts, _ = live_of(recipe)
    said = judge.of_recipe(recipe, summarise_data(texts))
    assert any(f.level == "warning" and "it teaches nothing" in f.text for f in said)
    losses = measure_losses(live)
    terms = {term.name: term for term in losses.terms}
    assert terms["divergence"].student_gradient == 0
    assert terms["divergence"].entering == 0
    assert terms["gold"].student_gradient == pytest.approx(losses.total.student_gradient, rel=1e-4)


def test_not_a_number_is_named_by_its_term(folders: dict[str, Path]) -> None:
    recipe = recipe_of(folders)
    live, _, _ = live_of(recipe)
    with torch.no_grad():
        live.teacher.model.get_output_embeddings().weight.fill_(float("nan"))
    said = [finding.text for finding in judge.of_losses(measure_losses(live), recipe)]
    assert "divergence: the value is nan" in said
    assert not any(text.startswith("gold:") for text in said)


def test_gradient_norms_by_hand() -> None:
    a, b = torch.zeros(2, requires_grad=True), torch.zeros(1, requires_grad=True)
    value = 3 * a[0] + 4 * a[1] - 2 * b.sum()
    assert gradient_norms(value, [a], [b]) == (5.0, 2.0)
    assert gradient_norms(value, [a], []) == (5.0, None)
    assert gradient_norms(torch.tensor(1.0), [a], [b]) == (0.0, 0.0)


# -- cost ------------------------------------------------------------------------------------------------------------


def test_peak_memory_sees_what_was_freed_again() -> None:
    with peak_memory(torch.device("cpu")) as used:
        block = torch.ones(16 << 20)
        del block
    assert 60 << 20 <= used[0] < 120 << 20


def test_wall_time_is_bound_by_the_longest_chain_and_by_the_workers() -> None:
    order = [
        Stage("work", name=name, needs=needs)
        for name, needs in (("data", ()), ("a", ("data",)), ("b", ("a",)), ("c", ("data",)))
    ]
    took = [StageEstimate(name, name, n, step) for name, n, step in (("a", 10, 1.0), ("b", 10, 2.0), ("c", 4, 1.0))]
    assert wall_time(order, took, 1) == 34
    assert wall_time(order, took, 2) == 30


def test_projection_follows_the_stages_of_run(folders: dict[str, Path]) -> None:
    overrides = ["distil.steps=null", "distil.epochs=2", "teacher.sft={steps: 7}", "student.sft={epochs: 1}"]
    recipe = recipe_of(folders, *overrides, "workers=2")
    seconds = {"distillation": 2.0, "student SFT": 1.0, "teacher SFT": None}
    sizes = {"train": 40, "unlabelled": 60}
    estimate = estimate_time(recipe, sizes, seconds)
    steps = {stage.stage: (stage.steps, stage.seconds) for stage in estimate.stages}
    assert steps == {
        "teacher_sft": (7, None),
        "student_sft": (2, 16.0),
        "train-sft": (50, 50.0),
        "train-seqkd": (50, 50.0),
        "train-kd_gold": (50, 100.0),
        "train-distilled": (50, 100.0),
    }
    assert estimate.wall == 158.0
    assert in_time(estimate.wall) == "3 min"


def test_a_moved_batch_still_shares_what_both_models_read(folders: dict[str, Path]) -> None:
    live, _, _ = live_of(recipe_of(folders))
    assert live.batch["teacher"] is live.batch["student"]
    again = move(live.batch, live.device)
    assert again["teacher"] is again["student"]
