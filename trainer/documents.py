"""Reading YAML files that people write, other than configs, with errors that name the place and the remedy."""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from trainer.errors import BabelrecError

_Content = TypeVar("_Content")


def read_yaml(path: Path, form: TypeAdapter[_Content], *, what: str, remedy: str) -> _Content:
    """Reads and checks a file.

    Args:
        path: The file.
        form: What it holds.
        what: What the file is to the user, for the error.
        remedy: The form in words, for the error.

    Raises:
        BabelrecError: unreadable, not YAML in UTF-8, or of another form.
    """
    try:
        return form.validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise BabelrecError(f"Can't read {what}: {path}: {error.strerror}. Give an existing YAML file.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BabelrecError(f"{path} is not valid YAML in UTF-8: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        raise BabelrecError(
            f"{path}: {place}: {first['msg']}, received {first['input']!r:.80}. Remedy: {remedy}"
        ) from error
