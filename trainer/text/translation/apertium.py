"""Apertium: local rule-based machine translation with its command and installed language pairs.

A batch is one process in null-flush mode: texts end with NUL, and so do their translations. Apertium's own
(de)formatters swallow NUL, so texts are passed in its stream format (``-f none``), in which reserved
characters are escaped by a backslash and untranslatable parts are in square brackets
(https://wiki.apertium.org/wiki/Apertium_stream_format).
"""

import hashlib
import html
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import langcodes
from langcodes.tag_parser import LanguageTagError

from trainer.errors import BabelrecError
from trainer.text.settings import ApertiumConfig
from trainer.text.translation.base import Translator

_INSTALL = (
    "On Debian and Ubuntu: apt-get install apertium and the packages of the pairs, for example apertium-eng-spa and "
    "apertium-fr-es; or set text.translation.apertium.command to its path."
)
_RESERVED = re.compile(r"[\\\[\]{}^$/@<>]")
# Markup units: comments, tags, declarations.
_TAG = re.compile(r"""<!--.*?-->|</?[A-Za-z](?:"[^"]*"|'[^']*'|[^<>"'])*>|<![^<>]*>""", re.DOTALL)
# Blanks that don't separate words for Apertium, and a character that its generators take for a mark.
_KEPT = re.compile(r"[\r\n\t~]+")
# A part of a translation in stream format: a bracketed blank, an escaped character, anything else.
_PIECES = re.compile(r"\[(?:\\.|[^\\\]])*\]|\\.|[^\\\[]+|.", re.DOTALL)


class Apertium(Translator):
    """Translates with the installed pairs, via other languages if there is no direct pair.

    Args:
        config: Command, data folder, markup, pivots.
        mark_unknown: Put ``*`` before words that the dictionaries lack, as Apertium does by default; else they are
            left unchanged.

    Raises:
        BabelrecError: The command does not exist.
    """

    def __init__(self, config: ApertiumConfig, *, mark_unknown: bool = False) -> None:
        command = shutil.which(config.command)
        if command is None:
            raise BabelrecError(f"There is no command {config.command!r} to translate with. {_INSTALL}")
        self._command = command
        self._config = config
        self._mark_unknown = mark_unknown

    @cached_property
    def pairs(self) -> dict[tuple[str, str], str]:
        """The installed directions: (source, target) as BCP 47 tags -> Apertium's mode name."""
        pairs: dict[tuple[str, str], str] = {}
        for mode in self._run([*self._data(), "-l"], b"").decode().split():
            tags = [_tag(part) for part in mode.split("-")]
            if len(tags) == 2 and tags[0] and tags[1]:
                pairs[tags[0], tags[1]] = mode
        return pairs

    def offers(self, source: str, target: str) -> bool:
        """Whether pairs connect ``source`` to ``target``, directly or through one of ``config.pivots``."""
        return self.route(source, target) is not None

    def route(self, source: str, target: str) -> list[str] | None:
        """The one or two modes from ``source`` to ``target``; None if there is no route.

        A tag with a region uses that region's pair if there is one (``pt-BR``), else the language's.
        """
        direct = self._pair(source, target)
        if direct is not None:
            return [direct]
        for pivot in self._config.pivots:
            first, second = self._pair(source, pivot), self._pair(pivot, target)
            if first is not None and second is not None:
                return [first, second]
        return None

    def _pair(self, source: str, target: str) -> str | None:
        for first in (source, _base(source)):
            for second in (target, _base(target)):
                if (first, second) in self.pairs:
                    return self.pairs[first, second]
        return None

    def identity(self, source: str, target: str) -> str:
        """Version, modes and a digest of the pairs' data, so that an upgrade causes retranslation."""
        modes = self._modes(source, target)
        digest = hashlib.sha256()
        for mode in modes:
            digest.update(self._mode_digest(mode).encode())
        unknown = "marked" if self._mark_unknown else "kept"
        name = f"{self._version} {' '.join(modes)} {digest.hexdigest()[:16]}"
        return f"{name} {self._config.markup} unknown-{unknown}"

    def translate(self, texts: Sequence[str], source: str, target: str) -> Iterator[list[str]]:
        """Translates with one process per batch and pair; see :meth:`Translator.translate`."""
        markup = self._config.markup == "html"
        modes = self._modes(source, target)
        for begin in range(0, len(texts), self._config.batch_size):
            stream = [_to_stream(text, markup=markup) for text in texts[begin : begin + self._config.batch_size]]
            for mode in modes:
                stream = self._pipe(stream, mode)
            yield [_from_stream(part, markup=markup) for part in stream]

    def _modes(self, source: str, target: str) -> list[str]:
        modes = self.route(source, target)
        if modes is None:
            installed = ", ".join(sorted({f"{first}-{second}" for first, second in self.pairs})) or "none"
            raise BabelrecError(
                f"Apertium has no pair from {source!r} to {target!r}, nor a route via "
                f"{' or '.join(self._config.pivots) or 'another language'} (installed pairs: {installed}). {_INSTALL}"
            )
        return modes

    def _pipe(self, stream: Sequence[str], mode: str) -> list[str]:
        unknown = [] if self._mark_unknown else ["-u"]
        given = b"".join(part.encode() + b"\0" for part in stream)
        answer = self._run([*self._data(), "-z", *unknown, "-f", "none", mode], given).decode("utf-8", "replace")
        *parts, rest = answer.split("\0")
        # The programs in the pipe flush once more when it is closed, which leaves empty parts at the end.
        parts, rest = parts[: len(stream)], "".join(parts[len(stream) :]) + rest
        if len(parts) != len(stream) or rest.strip():
            extra = f" and {rest[:80]!r} in addition" if rest.strip() else ""
            raise BabelrecError(
                f"Apertium's {mode} returned {len(parts)} of {len(stream)} texts{extra}. Its installation is damaged, "
                "or a program of this pair does not support null-flush."
            )
        return parts

    @cached_property
    def _version(self) -> str:
        return self._run(["-V"], b"").decode().strip() or "Apertium"

    def _mode_digest(self, mode: str) -> str:
        path = (self._config.data or self._default_data) / "modes" / f"{mode}.mode"
        try:
            pipeline = path.read_text(encoding="utf-8")
        except OSError:
            return mode
        digest = hashlib.sha256(pipeline.encode())
        for name in re.findall(r"'(/[^']+)'", pipeline):
            if Path(name).is_file():
                with open(name, "rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    @cached_property
    def _default_data(self) -> Path:
        return Path(self._command).resolve().parent.parent / "share" / "apertium"

    def _data(self) -> list[str]:
        return ["-d", str(self._config.data)] if self._config.data else []

    def _run(self, arguments: list[str], given: bytes) -> bytes:
        try:
            done = subprocess.run(
                [self._command, *arguments], input=given, capture_output=True, timeout=self._config.timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise BabelrecError(
                f"{self._command} {' '.join(arguments)} took longer than {self._config.timeout:g} s. Lower "
                "text.translation.apertium.batch_size or raise its timeout."
            ) from error
        except OSError as error:
            raise BabelrecError(f"{self._command} can't be run: {error}. {_INSTALL}") from error
        if done.returncode:
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["nothing on standard error"]
            raise BabelrecError(
                f"{self._command} {' '.join(arguments)} failed ({done.returncode}): {lines[0]}. {_INSTALL}"
            )
        return done.stdout


def _tag(name: str) -> str:
    """Converts Apertium's name of a language (``eng``, ``pt_BR``) to a BCP 47 tag; empty for other variants."""
    language, _, variant = name.partition("_")
    if variant and not re.fullmatch("[A-Z]{2}", variant):
        return ""
    try:
        return langcodes.standardize_tag(f"{language}-{variant}" if variant else language, macro=True)
    except LanguageTagError:
        return ""


def _base(tag: str) -> str:
    return tag.split("-")[0]


def _to_stream(text: str, *, markup: bool) -> str:
    if not markup:
        return _escape(text) + "[]"
    parts = []
    begin = 0
    for tag in _TAG.finditer(text):
        parts += [_escape(html.unescape(text[begin : tag.start()])), f"[{_backslash(tag.group())}]"]
        begin = tag.end()
    return "".join([*parts, _escape(html.unescape(text[begin:])), "[]"])


def _escape(text: str) -> str:
    # NUL would end the text.
    text = _backslash(text.replace("\0", " "))
    return _KEPT.sub(lambda blank: f"[{blank.group()}]", text)


def _backslash(text: str) -> str:
    return _RESERVED.sub(lambda character: "\\" + character.group(), text)


def _from_stream(stream: str, *, markup: bool) -> str:
    parts = []
    for piece in _PIECES.findall(stream):
        if piece.startswith("[") and piece.endswith("]"):
            parts.append(re.sub(r"\\(.)", r"\1", piece[1:-1], flags=re.DOTALL))
        else:
            text = piece[1:] if piece.startswith("\\") else piece
            parts.append(html.escape(text, quote=False) if markup else text)
    # Dropped pronouns leave a blank behind.
    return re.sub(r"(?<=\S) {2,}(?=\S)", " ", "".join(parts)).strip()
