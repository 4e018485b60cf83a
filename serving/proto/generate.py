"""Regenerates the files of this package: ``python -m serving.proto.generate`` (needs grpcio-tools and TensorFlow).

The messages keep the file names that they have in TensorFlow Serving and TensorFlow, under which they are known to
protobuf; TensorFlow's own definitions, which they import, are taken from its installed modules. The import lines of
the generated code are turned to ``serving.protos``, because importing anything of ``tensorflow`` costs seconds.

``tensorflow.binpb`` holds the descriptors of all that ``serving.protos`` names, for machines without TensorFlow, and
``stubs`` their types, which TensorFlow's packages lack.
"""

import re
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from serving import protos

_HERE = Path(__file__).resolve().parent
# File here -> the name under which protobuf registers it.
SOURCES = {
    "ssl_config": "tensorflow_serving/config/ssl_config",
    "monitoring_config": "tensorflow_serving/config/monitoring_config",
    "session_bundle_config": "tensorflow_serving/servables/tensorflow/session_bundle_config",
    "source_adapter_config": "tensorflow_serving/servables/tensorflow/source_adapter_config",
    "profiler_service_monitor_result": "tsl/profiler/protobuf/profiler_service_monitor_result",
    "profiler_service": "tsl/profiler/protobuf/profiler_service",
}
# TensorFlow's definitions that these import.
_IMPORTED = (
    "tensorflow.core.protobuf.config_pb2",
    "tensorflow.core.protobuf.named_tensor_pb2",
    "tensorflow.tsl.profiler.protobuf.profiler_options_pb2",
)
_SERVICES = ("profiler_service",)
_HEADER = "# fmt: off\n# ruff: noqa\n# mypy: ignore-errors\n"
_STUB_HEADER = "# fmt: off\n# ruff: noqa\n"
# protoc describes no services.
_SERVICE_STUB = _STUB_HEADER + "from typing import Any\n\ndef __getattr__(name: str) -> Any: ...\n"
_STUBS = "serving.proto.stubs"
_IMPORT = re.compile(r"^from (?P<package>[\w.]+) import (?P<module>\w+_pb2) as (?P<alias>\w+)$", re.MULTILINE)
_STUB_IMPORT = re.compile(r"^from (?P<package>(?:tensorflow|tsl|xla)[\w.]+) import (?P<what>\w+ as \w+)$", re.MULTILINE)


def generate(target: Path) -> list[Path]:
    """Writes the modules into ``target`` and returns their paths.

    Raises:
        RuntimeError: the compiler refused a file; its message is on standard error.
    """
    from grpc_tools import protoc  # type: ignore[import-untyped]

    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        imported = work / "imported.binpb"
        imported.write_bytes(_closure(protos.module(module).DESCRIPTOR for module in _IMPORTED))
        source = work / "source"
        for here, known in SOURCES.items():
            path = source / f"{known}.proto"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((_HERE / f"{here}.proto").read_bytes())
        # The well-known types come with the compiler; all other imports are in the descriptor set.
        include = Path(protoc.__file__).parent / "_proto"
        arguments = [f"--proto_path={source}", f"--proto_path={include}", f"--descriptor_set_in={imported}"]
        output = work / "output"
        output.mkdir()
        for here, known in SOURCES.items():
            options = [f"--python_out={output}", f"--pyi_out={output}"]
            if here in _SERVICES:
                options.append(f"--grpc_python_out={output}")
            if protoc.main(["protoc", *arguments, *options, f"{known}.proto"]):
                raise RuntimeError(f"protoc could not compile {here}.proto")
        every = work / "every.binpb"
        every.write_bytes(descriptors())
        names = [file.name for file in FileDescriptorSet.FromString(every.read_bytes()).file]
        names = [name for name in names if not name.startswith("google/")]
        if protoc.main(["protoc", f"--descriptor_set_in={every}", f"--pyi_out={output}", *names]):
            raise RuntimeError("protoc could not describe TensorFlow's messages")
        enums = {name for stub in output.rglob("*.pyi") for name in _enums(stub.read_text(encoding="utf-8"))}
        code = {"stubs/__init__.pyi": _exports()}
        for here, name in SOURCES.items():
            code[f"{here}_pb2.py"] = _HEADER + _redirect((output / f"{name}_pb2.py").read_text(encoding="utf-8"))
            code[f"{here}_pb2.pyi"] = _stub(output / f"{name}_pb2.pyi", enums)
        for here in _SERVICES:
            code[f"{here}_pb2_grpc.py"] = _HEADER + _redirect(
                (output / f"{SOURCES[here]}_pb2_grpc.py").read_text(encoding="utf-8")
            )
            code[f"{here}_pb2_grpc.pyi"] = _SERVICE_STUB
        for name in names:
            place = name.removesuffix(".proto") + "_pb2.pyi"
            code[f"stubs/{place}"] = _stub(output / place, enums)
    for file, content in code.items():
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        (target / file).write_text(content, encoding="utf-8")
    return [target / file for file in code]


def descriptors() -> bytes:
    """The content of ``tensorflow.binpb``, of the installed packages."""
    return _closure(
        [each.DESCRIPTOR for each in protos.modules()] + [protos.module(name).DESCRIPTOR for name in _IMPORTED]
    )


def _closure(roots: Iterable[FileDescriptor]) -> bytes:
    """A serialised FileDescriptorSet of files and all their imports, imported ones first."""
    files: dict[str, FileDescriptorProto] = {}

    def add(descriptor: FileDescriptor) -> None:
        if descriptor.name in files:
            return
        for dependency in descriptor.dependencies:
            add(dependency)
        # As it was registered: another form of the same file would be refused next to it.
        files[descriptor.name] = FileDescriptorProto.FromString(descriptor.serialized_pb)

    for root in roots:
        add(root)
    return FileDescriptorSet(file=files.values()).SerializeToString()


def _here() -> dict[str, str]:
    return {known.replace("/", "."): name for name, known in SOURCES.items()}


def _exports() -> str:
    """The stub of what ``serving.protos`` names."""
    lines = []
    for each in protos.modules():
        package, _, name = each.__name__.rpartition(".")
        lines.append(f"from {_STUBS}.{package} import {name} as {name}\n")
    return _STUB_HEADER + "".join(sorted(lines))


def _enums(stub: str) -> Iterator[str]:
    """Names of the enums of a stub, within the messages that hold them."""
    outer: list[str] = []
    for match in re.finditer(r"^( *)class (\w+)\((int, metaclass)?", stub, re.MULTILINE):
        del outer[len(match[1]) // 4 :]
        outer.append(match[2])
        if match[3]:
            yield ".".join(outer)


def _stub(path: Path, enums: Collection[str]) -> str:
    """A stub whose imports are stubs of this package.

    Values of enums are integers: so are those of messages. A message may be given as a mapping from field names.
    """
    names = "|".join(map(re.escape, enums))
    value = re.compile(rf"(?:(?<=: )|(?<=\[))(?:_\w+\.)?(?:{names})(?=[,\]\n])")

    def replace(match: re.Match[str]) -> str:
        package, what = match["package"], match["what"]
        module, _, alias = what.partition(" as ")
        own = _here().get(f"{package}.{module.removesuffix('_pb2')}")
        if own is not None:
            return f"from serving.proto import {own}_pb2 as {alias}"
        return f"from {_STUBS}.{package} import {what}"

    code = path.read_text(encoding="utf-8").replace(", _Mapping]", ", _Mapping[str, object]]")
    return _STUB_HEADER + _STUB_IMPORT.sub(replace, value.sub("int", code))


def _redirect(code: str) -> str:
    here = _here()

    def replace(match: re.Match[str]) -> str:
        package, module, alias = match["package"], match["module"], match["alias"]
        full = f"{package}.{module}"
        if full.removesuffix("_pb2") in here:
            return f"from serving.proto import {here[full.removesuffix('_pb2')]}_pb2 as {alias}"
        if package.startswith("tsl."):
            full = f"tensorflow.{full}"
        if full.startswith("tensorflow."):
            return f'from serving import protos as _protos\n{alias} = _protos.module("{full}")'
        return match[0]

    return _IMPORT.sub(replace, code)


if __name__ == "__main__":
    for path in generate(_HERE):
        print(path.name)
    protos.DESCRIPTORS.write_bytes(descriptors())
    print(protos.DESCRIPTORS.name)
    sys.exit(0)
