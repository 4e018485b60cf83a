"""`make tensorboard`: TensorBoard, whose projector opens the newest run with items coloured by language.

TensorBoard offers no setting for either. Only its projector plugin is changed; with a TensorBoard whose script
differs, the page opens uncoloured, as in plain ``tensorboard --logdir runs``.
"""

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
with warnings.catch_warnings():
    # TensorBoard 2.20 finds its plugins with pkg_resources.
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
    from tensorboard import default, program
from tensorboard.backend.http_util import Respond
from tensorboard.plugins.base_plugin import FlagsError
from tensorboard.plugins.projector import projector_plugin
from werkzeug import wrappers

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

_SCRIPT: Final = "/projector_binary.js"
# The initial colour of the page: the first option, which is "No color map".
_FIRST_COLOUR: Final = "this.selectedColorOptionName=this.colorOptions[0].name"
_BY_LANGUAGE: Final = (
    'this.selectedColorOptionName=(this.colorOptions.find(o=>o.name==="language")||this.colorOptions[0]).name'
)


class Projector(projector_plugin.ProjectorPlugin):
    """TensorBoard's projector with the newest run first, and ``language`` as the initial colour."""

    _configs: dict[str, Any]

    def get_plugin_apps(self) -> dict[str, Callable[..., Any]]:
        """The plugin's routes."""
        apps: dict[str, Callable[..., Any]] = super().get_plugin_apps()
        return apps | {_SCRIPT: self._serve_script}

    def _update_configs(self) -> None:
        super()._update_configs()
        self._configs = {run: self._configs[run] for run in sorted(self._configs, key=self._written, reverse=True)}

    def _written(self, run: str) -> float:
        try:
            return os.stat(self.config_fpaths[run]).st_mtime
        except OSError:
            # Such as a checkpoint without projector settings.
            return 0.0

    def _serve_script(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> "Iterable[bytes]":
        path = Path(projector_plugin.__file__).parent / "tf_projector_plugin" / _SCRIPT.lstrip("/")
        script = path.read_text(encoding="utf-8").replace(_FIRST_COLOUR, _BY_LANGUAGE)
        response = Respond(wrappers.Request(environ), script, content_type="application/javascript")
        body: Iterable[bytes] = response(environ, start_response)
        return body


def plugins() -> list[Any]:
    """TensorBoard's plugins, with this projector instead of its own."""
    return [Projector if each is projector_plugin.ProjectorPlugin else each for each in default.get_plugins()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs TensorBoard with its own flags; ``--logdir`` defaults to ``runs``."""
    flags = list(sys.argv[1:] if arguments is None else arguments)
    if not any(flag.startswith("--logdir") for flag in flags):
        flags = ["--logdir", "runs", *flags]
    server = program.TensorBoard(plugins=plugins())
    try:
        return int(server.main(server.configure(("tensorboard", *flags))) or 0)
    except FlagsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
