"""The methods of distillation from a teacher's logits or states, one section of the recipe each.

`distil.method` picks the class; what an option belongs to, what a method needs of the pair and what it forbids stands
here and nowhere else. A new method is a class in `METHODS` and an objective in `training.objectives.OBJECTIVES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails

from understudy import bounds
from understudy.errors import ConfigError
from understudy.extensions import claim
from understudy.recipe.on_policy import AdaptConfig, OnPolicyConfig
from understudy.recipe.training import TrainConfig
from understudy.types import AlignmentKind, Gives

Share = Literal["exact", "min_edit", "groups", "by_position"]


class MethodConfig(TrainConfig):
    """Distillation from a teacher's logits or hidden states; `method` decides which further options there are."""

    published_temperature: ClassVar[float] = 2.0
    """τ where the recipe names none. The recipe then stays without: another method put in its place has its own."""
    one_vocabulary: ClassVar[bool] = False
    """Whether it compares column by column and position by position."""
    reads: ClassVar[Gives] = Gives.STATES
    """The weakest that a teacher must give for it."""
    alignment: ClassVar[AlignmentKind | None] = None
    """How the answers of two tokenizers are aligned for it; None where it needs no alignment."""
    share: ClassVar[Share | None] = None
    """Which share of aligned tokens tells how much of a pair it can use; None where there is no such share."""
    share_means: ClassVar[str] = ""
    """What is said of that share."""
    not_linear: ClassVar[str] = ""
    """Why, whatever its divergence, it is not linear in the teacher's probabilities, behind its name; empty where that
    is for the divergence to say. Sampled targets are wrong for it on average."""
    needs_partners: ClassVar[bool] = True
    """Whether it is of no use where no token has a partner."""
    without: ClassVar[Mapping[str, str]] = {}
    """Options of other methods that one might look for here, and why it lacks them."""

    method: str
    """How the student learns; `understudy doctor` tells which methods suit the models, `understudy docs losses` how."""
    loss_temperature: float | None = Field(default=None, gt=0, le=bounds.TEMPERATURE)
    """Divides the logits of both sides before they are compared; default: what the method is published with."""
    gold_weight: float = Field(default=0.5, ge=0, le=1)
    """Weight of the gold cross-entropy, the divergence gets the rest; text the teacher wrote gets divergence only."""
    on_policy: OnPolicyConfig | None = None
    """Train on the student's own answers too, with the teacher's judgement of them (`understudy docs on-policy`)."""
    adapt: AdaptConfig | None = None
    """Schedules, an interpolated teacher, weights and filters of rows (`understudy docs on-policy`)."""

    @property
    def temperature(self) -> float:
        """`loss_temperature`, or the one the method is published with."""
        return self.loss_temperature or self.published_temperature

    @property
    def writes_alone(self) -> bool:
        """Whether the student learns its own answers alone, so that nobody has to answer for it."""
        return self.on_policy is not None and self.on_policy.share == 1 and self.on_policy.loss != "contrastive"

    @property
    def objective_learning_rate(self) -> float | None:
        """Learning rate of what the objective itself learns; None: that of the student."""
        return self.learning_rate

    @property
    def last_token_stands_for_group(self) -> bool:
        """Whether the last token of a group stands for it, not the first."""
        return False


class DivergenceConfig(MethodConfig):
    """A method that compares two distributions by a divergence of your choice."""

    divergences: ClassVar[tuple[str, ...] | None] = None
    """The only ones it can use; None: all but `forbids`, a user's own among them."""
    forbids: ClassVar[tuple[str, ...]] = ()
    """Those it cannot use."""
    refusal: ClassVar[str] = "cannot use {}"
    """What is said of one that it cannot use, behind the method's name."""
    instead: ClassVar[str] = ""
    """What to write then."""

    divergence: str = "forward_kl"
    """forward_kl, reverse_kl, js, generalized_js, skew_forward_kl, skew_reverse_kl, adaptive_kl, total_variation."""
    divergence_parameters: dict[str, float] = Field(default_factory=dict)
    """Parameters of the divergence, for example `{beta: 0.5}` or `{skew: 0.1}`."""

    def takes(self, divergence: str) -> bool:
        """Whether the method can use a divergence."""
        return divergence not in self.forbids and (self.divergences is None or divergence in self.divergences)


class LogitsConfig(DivergenceConfig):
    """A method that compares logits at a temperature, as they are or mapped to the other vocabulary."""

    scale_by_temperature_squared: bool = False
    """Multiply the divergence by the squared temperature (Hinton et al., 2015)."""


class ProjectorConfig(DivergenceConfig):
    """A method that learns maps between the hidden states of the two models."""

    # States are carried into the other model's space and judged by its head: log-probabilities hold neither.
    reads: ClassVar[Gives] = Gives.STATES
    without: ClassVar[Mapping[str, str]] = {"scale_by_temperature_squared": "which is published without the τ² factor"}

    projector_learning_rate: float = Field(default=1e-3, gt=0, le=bounds.RATE)
    """Learning rate of the objective's own parameters, the projectors."""

    @property
    def objective_learning_rate(self) -> float:
        """Learning rate of the projectors."""
        return self.projector_learning_rate


class KdConfig(LogitsConfig):
    """Divergence of the output distributions, column by column and position by position (Hinton et al., 2015)."""

    published_temperature: ClassVar[float] = 1.0
    one_vocabulary: ClassVar[bool] = True
    # The student has every column of its own; of the teacher's, the tail may be one bucket on both sides.
    reads: ClassVar[Gives] = Gives.TOP_K

    method: Literal["kd"] = "kd"


class DskdConfig(ProjectorConfig):
    """Dual-space distillation for one vocabulary (DSKD, arXiv 2406.17328)."""

    one_vocabulary: ClassVar[bool] = True

    method: Literal["dskd"] = "dskd"


class DskdCmaConfig(ProjectorConfig):
    """Dual-space distillation with cross-model attention, which aligns two vocabularies itself (arXiv 2406.17328)."""

    # Its queries and keys are made of token embeddings.
    reads: ClassVar[Gives] = Gives.STATES | Gives.EMBEDDINGS

    method: Literal["dskd_cma"] = "dskd_cma"
    published: bool = False
    """The authors' deviations: over the whole padded micro-batch, prompt and padding too (`understudy docs losses`)."""


class DskdV2Config(ProjectorConfig):
    """Dual-space distillation on the tokens that cover the same text (DSKDv2, arXiv 2504.11426)."""

    alignment: ClassVar[AlignmentKind | None] = "exact"
    share: ClassVar[Share | None] = "exact"
    share_means: ClassVar[str] = (
        "of the answer tokens have a partner that covers the same bytes; the rest is gold alone"
    )

    method: Literal["dskd_v2"] = "dskd_v2"
    agreement_threshold: float = Field(default=1.0, gt=0, le=1)
    """Above this share of right tokens an example's whole answer is compared in the student's space."""
    published: bool = False
    """Divide each dual-space term by the tokens it counts itself in a micro-batch, as the authors' code does."""


class MinEditConfig(LogitsConfig):
    """Divergence from the teacher's logits carried to the student's vocabulary by edit distance (MinED)."""

    # Where a likely token is carried to is known; the columns that only others are carried to are one bucket.
    reads: ClassVar[Gives] = Gives.TOP_K
    not_linear: ClassVar[str] = "takes the largest of the teacher's tokens that meet on one of the student's"
    alignment: ClassVar[AlignmentKind | None] = "min_edit"
    share: ClassVar[Share | None] = "min_edit"
    share_means: ClassVar[str] = "of the answer tokens have a partner; the others learn their gold token"
    forbids: ClassVar[tuple[str, ...]] = ("reverse_kl", "adaptive_kl")
    refusal: ClassVar[str] = "cannot use {}: the mapped teacher rules tokens out, which makes it infinite"
    instead: ClassVar[str] = "distil.divergence: forward_kl, js, skew_forward_kl, skew_reverse_kl or total_variation"

    method: Literal["min_edit"] = "min_edit"


class UldConfig(MethodConfig):
    """Universal logit distillation: distance of the sorted probabilities (ULD, arXiv 2402.12030)."""

    # The likeliest tokens have their ranks; what is behind them is one bucket on both sides.
    reads: ClassVar[Gives] = Gives.TOP_K
    not_linear: ClassVar[str] = "sorts the teacher's probabilities"
    published_temperature: ClassVar[float] = 1.0
    alignment: ClassVar[AlignmentKind | None] = "start"
    share: ClassVar[Share | None] = "by_position"
    share_means: ClassVar[str] = "of the answer tokens stand beside one that covers the same bytes"
    # Sorted probabilities claim nothing of what a token means, so nothing can contradict them.
    needs_partners: ClassVar[bool] = False
    without: ClassVar[Mapping[str, str]] = {
        **ProjectorConfig.without,
        "divergence": "which compares sorted probabilities",
        "divergence_parameters": "which compares sorted probabilities",
    }

    method: Literal["uld"] = "uld"


class ByteAlignedConfig(DivergenceConfig):
    """Merged probabilities of token groups that write the same bytes (GOLD)."""

    BETAS: ClassVar[Mapping[str, float]] = {
        "forward_kl": 0.0,
        "reverse_kl": 1.0,
        "js": 0.5,
        "generalized_js": 0.5,
    }
    """β of the generalised Jensen–Shannon divergence that each name stands for."""

    published_temperature: ClassVar[float] = 1.0
    # Any column may be the next token of a group, so its own probability must be known.
    reads: ClassVar[Gives] = Gives.LOGPS
    alignment: ClassVar[AlignmentKind | None] = "groups"
    share: ClassVar[Share | None] = "groups"
    share_means: ClassVar[str] = "of the answer tokens lie in groups between common cuts"
    without: ClassVar[Mapping[str, str]] = ProjectorConfig.without
    divergences: ClassVar[tuple[str, ...] | None] = tuple(BETAS)
    refusal: ClassVar[str] = "knows the generalised Jensen–Shannon divergence, not {}"
    instead: ClassVar[str] = "distil.divergence: js, forward_kl, reverse_kl, or generalized_js with its parameter beta"

    method: Literal["byte_aligned"] = "byte_aligned"
    merge: Literal["observed", "bayesian"] = "observed"
    """A group speaks by its first token's distribution (observed), or by its last one's (bayesian)."""

    @property
    def beta(self) -> float:
        """β of the generalised Jensen–Shannon divergence."""
        return self.divergence_parameters.get("beta", self.BETAS[self.divergence])

    @property
    def last_token_stands_for_group(self) -> bool:
        """Bayesian merging reads the distribution behind the whole group."""
        return self.merge == "bayesian"


METHODS: dict[str, type[MethodConfig]] = {
    "kd": KdConfig,
    "dskd": DskdConfig,
    "dskd_cma": DskdCmaConfig,
    "dskd_v2": DskdV2Config,
    "min_edit": MinEditConfig,
    "uld": UldConfig,
    "byte_aligned": ByteAlignedConfig,
}
"""Every method by the name that `distil.method` gives it."""


def register(config: type[MethodConfig]) -> type[MethodConfig]:
    """Make the section of a method of one's own known; recipes name its file in `extensions`.

    Its name is the default of its field `method`. The objective is registered beside it, with
    `understudy.training.objectives.register`.

    Raises:
        ConfigError: the name is taken, or the class has none.
    """
    name = config.model_fields["method"].default
    if not isinstance(name, str):
        raise ConfigError(f"{config.__name__} has no name", hint='give it a field method: Literal["mine"] = "mine"')
    claim("method", name, METHODS)
    METHODS[name] = config
    return config


DEFAULT = "kd"
"""The method of a recipe that names none."""


def in_words() -> str:
    """All methods, by how many vocabularies they take."""
    one_vocabulary = [name for name, kind in METHODS.items() if kind.one_vocabulary]
    two_vocabularies = [name for name in METHODS if name not in one_vocabulary]
    return f"One vocabulary: {', '.join(one_vocabulary)}; one or two: {', '.join(two_vocabularies)}."


def options() -> dict[str, FieldInfo]:
    """Every field that a section `distil` may have: what all methods have in common, then what some of them add."""
    fields = dict(MethodConfig.model_fields)
    sentence = f"{fields['method'].description} {in_words()}"
    names = Literal[tuple(METHODS)]  # pyright: ignore
    fields["method"] = FieldInfo(annotation=names, default=DEFAULT, description=sentence)  # pyright: ignore
    for kind in METHODS.values():
        fields |= {name: field for name, field in kind.model_fields.items() if name not in fields}
    return fields


def owners(option: str) -> list[str]:
    """The methods that have an option."""
    return [name for name, kind in METHODS.items() if option in kind.model_fields]


def why_foreign(method: str, option: str) -> str:
    """Why a method does not take an option that another one has, behind the option's path; empty where it is nobody's.

    Args:
        method: name of the method.
        option: a field that its section does not have.
    """
    methods = owners(option)
    if not methods or method not in METHODS:
        return ""
    if reason := METHODS[method].without.get(option):
        return f"does not apply to {method}, {reason}"
    return (
        f"belongs to {' and '.join([', '.join(methods[:-1]), methods[-1]] if methods[1:] else methods)}, not {method}"
    )


def options_of_method(section: Mapping[str, Any], *, recorded: bool = False) -> dict[str, Any]:
    """A section without options of other methods that say nothing, because they stand at their default.

    So a recipe that is written out in full can be given another method, and one that an earlier version wrote, which
    wrote the options of all methods, can be read.

    Args:
        section: the mapping at `distil`.
        recorded: it was written by a run whose method did not read such options, whatever they stood at.
    """
    fields = METHODS[section.get("method", DEFAULT)].model_fields
    return {
        name: value
        for name, value in section.items()
        if name in fields or not owners(name) or not (recorded or _at_default(name, value))
    }


def _at_default(option: str, value: Any) -> bool:
    return value == options()[option].get_default(call_default_factory=True)


def _of_its_method(section: Any) -> Any:
    """The section as the class that its `method` names."""
    if not isinstance(section, Mapping):
        return section
    method = section.get("method", DEFAULT)
    if not isinstance(method, str) or method not in METHODS:
        *names, last = map(repr, METHODS)
        context = {"expected": f"{', '.join(names)} or {last}"}
        details = InitErrorDetails(type="literal_error", loc=("method",), input=method, ctx=context)
        raise ValidationError.from_exception_data("distil", [details])
    return METHODS[method].model_validate(options_of_method(section))


DistilConfig = Annotated[SerializeAsAny[MethodConfig], BeforeValidator(_of_its_method)]
"""The section `distil`: the options of the method that it names, `kd` where it names none."""
