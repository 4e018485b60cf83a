"""A SavedModel in its own graph and session."""

import ctypes
from collections.abc import Sequence
from ctypes import c_char_p, c_void_p
from pathlib import Path

from serving.private.tensorflow import Output, Status, TensorFlowError, buffer_of, library, output_array
from serving.protos import config_pb2, meta_graph_pb2
from serving.runtime import priority

_NOT_FOUND = 5
_CALLING_THREAD = -1
# Values of ``RewriterConfig``; 0 is TensorFlow's default.
_ONE_ITERATION = 1
_NO_MEMORY_OPTIMIZATION = 1
INLINE_OPTIONS: bytes = config_pb2.RunOptions(inter_op_thread_pool=_CALLING_THREAD).SerializeToString()
"""``RunOptions`` that run operations one after another in the calling thread."""


def _prepared_quickly(config: config_pb2.ConfigProto) -> config_pb2.ConfigProto:
    """A copy of a ``ConfigProto`` that skips optional graph optimisations, unless they are set explicitly.

    One pass instead of two, and no memory swapping plan: a large model loads in two thirds of the time
    (docs/serving.md), and runs no slower.
    """
    prepared = config_pb2.ConfigProto()
    prepared.CopyFrom(config)
    rewriter = prepared.graph_options.rewrite_options
    rewriter.meta_optimizer_iterations = rewriter.meta_optimizer_iterations or _ONE_ITERATION
    rewriter.memory_optimization = rewriter.memory_optimization or _NO_MEMORY_OPTIMIZATION
    return prepared


class SavedModelSession:
    """Loads a SavedModel like TensorFlow Serving, including initialisers, and runs parts of its graph.

    Args:
        path: the version directory.
        tags: tags of the meta graph to load.
        config: a ``tensorflow.ConfigProto``.

    Attributes:
        graph: the ``TF_Graph``.
        meta_graph: the ``MetaGraphDef``, without its graph.

    Raises:
        TensorFlowError: it can't be loaded.
    """

    def __init__(self, path: Path, tags: Sequence[str], config: config_pb2.ConfigProto) -> None:
        c = library()
        self.graph: int | None = c.TF_NewGraph()
        self._session: int | None = None
        self._loading_pool: int | None = None
        initialise = b""
        config = _prepared_quickly(config)
        if priority.is_loading():
            config, self._loading_pool = priority.with_pool(config)
            initialise = config_pb2.RunOptions(inter_op_thread_pool=self._loading_pool).SerializeToString()
        options = c.TF_NewSessionOptions()
        meta_graph = c.TF_NewBuffer()
        try:
            with Status() as status:
                serialized = config.SerializeToString()
                c.TF_SetConfig(options, serialized, len(serialized), status.pointer)
                status.check()
                names = (c_char_p * len(tags))(*[tag.encode() for tag in tags])
                self._session = priority.load_session(
                    options,
                    buffer_of(initialise),
                    str(path).encode(),
                    names,
                    len(tags),
                    self.graph,
                    meta_graph,
                    status.pointer,
                )
                status.check()
            content = ctypes.string_at(meta_graph.contents.data, meta_graph.contents.length)
            self.meta_graph = meta_graph_pb2.MetaGraphDef.FromString(content)
            # By far its largest part; TensorFlow has its own copy.
            self.meta_graph.ClearField("graph_def")
        except BaseException:
            self.close()
            raise
        finally:
            c.TF_DeleteBuffer(meta_graph)
            c.TF_DeleteSessionOptions(options)

    @property
    def pointer(self) -> int:
        """The ``TF_Session``."""
        assert self._session is not None
        return self._session

    def output(self, tensor_name: str) -> Output:
        """The tensor ``operation:index`` of the graph.

        Raises:
            TensorFlowError: NOT_FOUND, there is no such operation or output.
        """
        operation, _, index = tensor_name.partition(":")
        pointer = library().TF_GraphOperationByName(self.graph, operation.encode())
        if not pointer:
            raise TensorFlowError(_NOT_FOUND, f"the graph has no operation {operation!r}")
        if index and int(index) >= library().TF_OperationNumOutputs(pointer):
            raise TensorFlowError(_NOT_FOUND, f"operation {operation!r} of the graph has no output {index}")
        return Output(pointer, int(index or 0))

    def callable(self, feeds: Sequence[Output], fetches: Sequence[Output], *, inline: bool = False) -> "Callable":
        """A thread-safe callable that computes ``fetches`` from ``feeds``.

        Args:
            feeds: tensors that a call passes in.
            fetches: tensors that it returns.
            inline: run operations one after another in the calling thread instead of in TensorFlow's pool.
        """
        assert self._session is not None
        return Callable(self._session, feeds, fetches, inline, self._loading_pool)

    def extend(self) -> None:
        """Makes operations added to the graph runnable, and later runs slightly cheaper."""
        with Status() as status:
            library().TF_ExtendSession(self._session, status.pointer)
            status.check()

    def close(self) -> None:
        """Frees graph and session; nothing may run afterwards."""
        if self._session is not None:
            priority.delete_session(self._session, self.graph)
        elif self.graph is not None:
            library().TF_DeleteGraph(self.graph)
        self._session = self.graph = None


class Callable:
    """Computes fixed outputs from fixed inputs; see ``SavedModelSession.callable``."""

    def __init__(
        self,
        session: int,
        feeds: Sequence[Output],
        fetches: Sequence[Output],
        inline: bool,
        loading_pool: int | None = None,
    ) -> None:
        self._session = session
        self._loading_pool = loading_pool
        self._options = config_pb2.RunOptions(inter_op_thread_pool=_CALLING_THREAD if inline else 0)
        self._usual_options = self._options.SerializeToString()
        self._feeds = output_array(feeds)
        self._fetches = output_array(fetches)
        self._feed_type = c_void_p * len(feeds)
        self._fetch_type = c_void_p * len(fetches)

    def __call__(self, tensors: Sequence[int], timeout: float | None = None) -> list[int]:
        """Runs the graph, blocking, without holding the GIL.

        Args:
            tensors: one ``TF_Tensor`` per feed; the caller keeps ownership.
            timeout: seconds after which the run is cancelled; None waits.

        Returns:
            One ``TF_Tensor`` per fetch; the caller frees them.

        Raises:
            TensorFlowError: the graph refused the values, or there was no time left.
        """
        results = self._fetch_type()
        loading_pool = self._loading_pool if self._loading_pool is not None and priority.is_loading() else None
        if timeout is None and loading_pool is None:
            serialized = self._usual_options
        else:
            options = config_pb2.RunOptions()
            options.CopyFrom(self._options)
            if timeout is not None:
                options.timeout_in_ms = max(int(timeout * 1000), 1)
            if loading_pool is not None:
                options.inter_op_thread_pool = loading_pool
            serialized = options.SerializeToString()
        run_options = buffer_of(serialized)
        run = library().TF_SessionRun if loading_pool is None else priority.run_session
        with Status() as status:
            run(
                self._session,
                run_options,
                self._feeds,
                self._feed_type(*tensors),
                len(self._feeds),
                self._fetches,
                results,
                len(self._fetches),
                None,
                0,
                None,
                status.pointer,
            )
            status.check()
        return list(results)
