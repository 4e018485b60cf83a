"""Settings of training: optimiser, schedule, stopping, additional losses, transfer."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from trainer.config.base import AbsolutePath, Fraction, Settings
from trainer.data.settings import Source


class TransferConfig(Settings):
    """Transfer from the run that a run starts from (`training.start_from`; docs/transfer.md)."""

    shared: Literal["train", "frozen"] = Field(
        "train", description="`frozen`: only the new ids' vectors and the text encoder's tuned part are trained."
    )
    ids: bool = Field(
        False,
        description="Equal ids mean the same users, items, languages and categories as in that run, and their vectors "
        "are taken over too: for later data of the same market.",
    )
    rate: float = Field(1.0, gt=0.0, description="Factor of `training.learning_rate`. Set by `update`.")
    new_rate: float = Field(10.0, gt=0.0, description="Factor of the learning rate for new weights.")
    max_forgetting: float | None = Field(
        0.02,
        ge=0.0,
        lt=1.0,
        description="Share of the source's validation Recall@10 that may be lost. Trained and starting weights are "
        "averaged (WiSE-FT, Wortsman et al., 2022, arXiv 2109.01903), the share chosen on both validation parts; null "
        "keeps the trained weights unchanged.",
    )
    anchor: float = Field(
        0.0, ge=0.0, description="L2-SP: weight of the squared distance to the starting weights (arXiv 1802.01483)."
    )
    replay: float = Field(0.0, ge=0.0, description="Weight of the loss of a batch of the source's training part.")
    since: int | None = Field(
        None,
        description="Unix seconds; with `replayed`, the source has learned from what came before. Set by `update`.",
    )
    replayed: float | None = Field(
        None,
        ge=0.0,
        description="Older positives, drawn at random, for each one since then; null: all of them. Histories stay "
        "complete. Set by `update`.",
    )


class AlignmentConfig(Settings):
    """A contrastive loss that pulls translations together (docs/crosslingual.md)."""

    weight: float = Field(0.0, ge=0.0, description="Weight of the loss; 0: off.")
    space: Literal["shared", "text"] = Field(
        "shared", description="`shared`: the space of queries and items; `text`: sentence vectors after conversion."
    )
    temperature: float = Field(0.05, gt=0.0, description="Temperature of the loss.")
    batch_size: int = Field(128, ge=2, description="Pairs per step.")
    hold_out: float = Field(
        0.2, ge=0.0, lt=1.0, description="Share of the items whose pairs are used only for evaluation."
    )
    source: Source | None = Field(None, description="Dataset whose parallel texts are used; null: the run's own.")
    co_consumed: int | None = Field(
        None, ge=1, description="Also pair items in two languages if at least this many users consumed both; null: off."
    )

    @field_validator("source", mode="before")
    @classmethod
    def _name_alone(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value


class AugmentationConfig(Settings):
    """Alternative item texts in training, and a loss between two views of an item."""

    random_language: bool = Field(False, description="Use a random one of each item's languages.")
    token_dropout: Fraction = Field(0.0, description="Share of words dropped in additional versions of each text.")
    token_views: int = Field(2, ge=1, description="Number of versions of each text with words dropped.")
    single_fields: bool = Field(False, description="Also use the title alone and the description alone.")
    self_supervised: float = Field(
        0.0, ge=0.0, description="Weight of InfoNCE between two views of items (Yao et al., 2020, arXiv 2007.12865)."
    )
    temperature: float = Field(0.1, gt=0.0, description="Temperature of that loss.")
    items: int = Field(256, ge=2, description="Items per step for that loss, drawn uniformly.")


class AdversarialConfig(Settings):
    """An adversarial loss on the items' vectors (docs/crosslingual.md)."""

    method: Literal["fgm", "vat"] | None = Field(
        None, description="`fgm` (Miyato et al., arXiv 1605.07725), `vat` (arXiv 1704.03976); null: off."
    )
    at: Literal["text", "candidate"] = Field("text", description="Sentence vectors, or the candidate tower's vectors.")
    epsilon: float = Field(0.2, gt=0.0, description="Length of the perturbation; a sentence vector has length 1.")
    weight: float = Field(0.5, gt=0.0, description="Weight of the loss.")


class OwnLossConfig(Settings):
    """A loss of your own, added to those of the two tasks (docs/extending.md)."""

    path: str = Field(
        description="Import path (`package.module:NAME`) of a function from the model to (training step) -> scalar."
    )
    weight: float = Field(1.0, gt=0.0, description="Weight of the loss.")


class TrainingConfig(Settings):
    """Keras `fit`: optimiser, schedule, stopping, checkpoints."""

    epochs: int = Field(20, ge=1, description="Maximum number of epochs.")
    epoch_steps: int | None = Field(
        None,
        ge=1,
        description="Steps per epoch, and so between validations; null: one pass over the positives, at least "
        "`min_epoch_steps`.",
    )
    batch_size: int = Field(512, ge=2, description="Maximum positives per step: see `min_epoch_steps`.")
    min_epoch_steps: int = Field(
        20,
        ge=1,
        description="Minimum steps per epoch. With few positives batches get smaller, down to 32, and if that "
        "does not suffice, an epoch repeats positives. 1: no minimum.",
    )
    history: Literal["leave_one_out", "causal"] = Field(
        "causal", description="A training query's history: the user's earlier positives, or all others."
    )
    learning_rate: float = Field(3e-3, gt=0.0, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(1e-2, ge=0.0, description="Decoupled weight decay.")
    warmup: Fraction = Field(0.05, description="Share of the planned steps during which the learning rate rises.")
    warmup_steps: int | None = Field(
        None, ge=0, description="Number of warm-up steps instead of that share; at most half of the planned steps."
    )
    clip_norm: float = Field(1.0, gt=0.0, description="Maximum global norm of the gradients.")
    ema_decay: float | None = Field(None, gt=0.0, lt=1.0, description="Exponential moving average of the weights.")
    patience: int = Field(
        5, ge=1, description="Epochs after the warm-up without a better validation recall before stopping."
    )
    validation_users: int | None = Field(
        10_000,
        ge=2,
        description="Maximum number of validation users to rank after each epoch. If there are more, as many are drawn "
        "at random by `seed`, the same for every epoch and choice, and the log states the standard error; null: all.",
    )
    start_from: AbsolutePath | None = Field(
        None, description="Run directory whose weights to start from; id vectors start from scratch. Set by `finetune`."
    )
    transfer: TransferConfig = TransferConfig()
    popularity_factors: list[Annotated[float, Field(gt=0.0)]] = Field(
        [],
        description="With `model.candidate.popularity`: factors of popularity to choose from on the validation part "
        "after training, in addition to 1. For few interactions.",
    )
    refit: bool = Field(
        True, description="Train once more on training + validation for the best number of epochs before testing."
    )
    alignment: AlignmentConfig = AlignmentConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    adversarial: AdversarialConfig = AdversarialConfig()
    own_losses: list[OwnLossConfig] = Field(
        [], description="Losses of your own: a list of `path` (`package.module:NAME`) and `weight` (docs/extending.md)."
    )
    checkpoint_steps: int = Field(200, ge=1, description="Steps between checkpoints, from which a killed run resumes.")
    loggers: list[Literal["mlflow", "wandb"]] = Field(
        [], description="Experiment trackers to log settings, metrics and reports to (docs/watching.md)."
    )
    all_gpus: bool = Field(
        False,
        description="Train on every GPU of this machine (`tf.distribute.MirroredStrategy`). Workers that `TF_CONFIG` "
        "lists use all of theirs anyway.",
    )
    histograms: bool = Field(True, description="Weight histograms in TensorBoard; of large tables, a sample.")
    projector_items: int = Field(10_000, ge=0, description="Items shown in TensorBoard's embedding projector.")
