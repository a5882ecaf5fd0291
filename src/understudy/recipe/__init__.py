"""A recipe: the validated, hashable description of a run, as a person writes it in YAML.

Every field has a default that works and a sentence that says what it does; `understudy init --full`
writes those sentences as comments. This package knows no torch, so that a recipe is checked in milliseconds.
"""

from understudy.recipe.candidates import CandidatesConfig
from understudy.recipe.data import ContextOverflow, DataConfig
from understudy.recipe.embedding import EmbeddingConfig
from understudy.recipe.endpoint import EndpointConfig, JudgeConfig, Section
from understudy.recipe.evaluate import EvaluateConfig
from understudy.recipe.features import FeaturesConfig, InputConfig
from understudy.recipe.grid import Cell, Grid, GridConfig, is_grid, load_grid, parse_grid
from understudy.recipe.hint import HintConfig
from understudy.recipe.knowledge import FilterConfig, GenerateConfig, SessionsConfig, TaskConfig, TaskKind
from understudy.recipe.methods import METHODS, DivergenceConfig, KdConfig, MethodConfig
from understudy.recipe.reading import dump_recipe, load_recipe, load_recorded, load_yaml, parse_recipe
from understudy.recipe.recipe import LATER_FIELDS, Device, Recipe
from understudy.recipe.session_knowledge import KnowledgeConfig
from understudy.recipe.student import CutConfig, StudentConfig
from understudy.recipe.teacher import CACHE_FILE, CacheConfig, TeacherConfig
from understudy.recipe.teachers import OtherTeacherConfig, TeachersConfig
from understudy.recipe.training import (
    Dtype,
    LoraConfig,
    ModelConfig,
    PretrainConfig,
    SeqkdConfig,
    TrainConfig,
)

__all__ = [
    "CACHE_FILE",
    "LATER_FIELDS",
    "METHODS",
    "CacheConfig",
    "CandidatesConfig",
    "Cell",
    "ContextOverflow",
    "CutConfig",
    "DataConfig",
    "Device",
    "DivergenceConfig",
    "Dtype",
    "EmbeddingConfig",
    "EndpointConfig",
    "EvaluateConfig",
    "FeaturesConfig",
    "FilterConfig",
    "GenerateConfig",
    "Grid",
    "GridConfig",
    "HintConfig",
    "InputConfig",
    "JudgeConfig",
    "KdConfig",
    "KnowledgeConfig",
    "LoraConfig",
    "MethodConfig",
    "ModelConfig",
    "OtherTeacherConfig",
    "PretrainConfig",
    "Recipe",
    "Section",
    "SeqkdConfig",
    "SessionsConfig",
    "StudentConfig",
    "TaskConfig",
    "TaskKind",
    "TeacherConfig",
    "TeachersConfig",
    "TrainConfig",
    "dump_recipe",
    "is_grid",
    "load_grid",
    "load_recipe",
    "load_recorded",
    "load_yaml",
    "parse_grid",
    "parse_recipe",
]
