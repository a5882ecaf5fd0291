"""Whether a run is still made from what stands on the disk; no torch here."""

from __future__ import annotations

from pathlib import Path

from understudy.data.documents import fingerprint_documents
from understudy.data.session_folder import is_session_folder
from understudy.files import fingerprint_file, fingerprint_folder, fingerprint_tree, read_json
from understudy.pipeline.kinds import stages
from understudy.recipe import GenerateConfig, Recipe
from understudy.records import GenerationNotes, PairNotes, PretrainingNotes, Source
from understudy.run import EXTENSIONS, Run


def changed(run: Run, recipe: Recipe) -> list[str]:
    """Extensions, data files, model folders and sources of texts that are no longer what the run was made from.

    What is no longer there cannot be compared and is passed over: a finished run does not need it.
    """
    paths = [name for name in recipe.extensions if Path(name).is_file() and not _is_as_run(run, Path(name))]
    return [*paths, *_changed_sources(run, recipe)]


def _is_as_run(run: Run, path: Path) -> bool:
    copy = run.folder / EXTENSIONS / path.name
    return not copy.is_file() or fingerprint_file(copy) == fingerprint_file(path)


def _changed_sources(run: Run, recipe: Recipe) -> list[str]:
    names = {**recipe.data.files, "catalogue": recipe.data.catalogue, "corpus": recipe.data.corpus}
    paths = []
    for source in read_json(run.folder / "data" / "notes.json").get("sources", ()):
        name = names.get(source.get("role"))
        if name and _is_other(Path(name), source["fingerprint"]):
            paths.append(name)
    for model in run.notes("pair", PairNotes).models if run.is_done("pair") else ():
        if Path(model.folder).exists() and fingerprint_folder(model.folder) != model.fingerprint:
            paths.append(model.folder)
    for source in run.notes("generate", GenerationNotes).sources if run.is_done("generate") else ():
        if Path(source.name).expanduser().exists() and fingerprint_tree(source.name) != source.fingerprint:
            paths.append(source.name)
    for stage in stages(recipe, unlabelled=True):
        if stage.kind == "pretrain" and run.is_done(stage.name):
            source = run.notes(stage.name, PretrainingNotes).source
            if Path(source.name).exists() and fingerprint_documents(source.name) != source.fingerprint:
                paths.append(source.name)
    return paths


def _is_other(path: Path, fingerprint: str) -> bool:
    if path.is_file():
        return fingerprint_file(path) != fingerprint
    return is_session_folder(path) and fingerprint_tree(path) != fingerprint


def text_sources(config: GenerateConfig) -> tuple[Source, ...]:
    """The files and folders behind generated texts, with their fingerprints."""
    named = [config.recorded, config.recorded_questions, config.demonstrations, config.prompts, *config.own_steps]
    named += [config.sessions.difficulty_from] if config.sessions else []
    return tuple(Source(name, fingerprint_tree(name)) for name in named if name)
