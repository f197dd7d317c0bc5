"""Protobuf: a `.proto` file as text, or its FileDescriptorProto in base64, which is what clients in Python
and Go send. Google's own compiler and library read both.

What is stored is the text that `proto_text` writes of the descriptor, so that both forms of a file are one
schema. Comments are no part of it. A descriptor with options of the user's own is stored in base64: their
names are not in it.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import math
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError

from raftlog.registry.formats import Invalid, Source
from raftlog.registry.formats.proto_compare import differences
from raftlog.registry.formats.proto_text import CannotPrint, camel_case, print_file, quoted

PROTOC_S: Final = 20.0
NAME: Final = "schema.proto"
KNOWN: Final = ("google/protobuf/", "google/type/")
"""Imports that need no reference: clients send none for them."""
NOT_CHECKED: Final = "confluent/"
"""Known to Confluent's clients, and not here: a file with such an import is taken as it is."""


def canonical(source: Source, *, normalize: bool) -> str:
    file = _read(source)
    if normalize:
        _sort(file)
    try:
        return print_file(file)
    except CannotPrint:
        return _to_base64(file)


def serialized(source: Source) -> str:
    """The descriptor in base64, as `format=serialized` asks for."""
    return _to_base64(_read(source))


def objections(reader: Source, writer: Source) -> list[str]:
    return list(differences(_read(reader), _read(writer)))


def _to_base64(file: FileDescriptorProto) -> str:
    return base64.b64encode(file.SerializeToString(deterministic=True)).decode()


def _read(source: Source) -> FileDescriptorProto:
    """The descriptor, without what says nothing about messages: its name, and names that follow from others.
    Raises Invalid."""
    file = _from_base64(source.text)
    if file is None:
        file = _compile(source)[-1]
    else:
        _check(file, source)
    file.ClearField("name")
    file.ClearField("source_code_info")
    for message in _messages(file):
        for field in message.field:
            if field.json_name == camel_case(field.name):
                field.ClearField("json_name")
    for extension in file.extension:
        extension.ClearField("json_name")
    return file


def _messages(file: Any) -> Iterator[Any]:
    pending = list(file.message_type)
    while pending:
        message = pending.pop()
        yield message
        pending += message.nested_type


def _from_base64(text: str) -> FileDescriptorProto | None:
    """None for text that is no descriptor. A `.proto` file is no base64: it has spaces, and quotes or
    semicolons."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    file = FileDescriptorProto()
    try:
        file.ParseFromString(data)
    except DecodeError as error:
        raise Invalid(f"no Protobuf file: neither text nor a FileDescriptorProto: {error}") from error
    if not text or not (file.message_type or file.enum_type or file.extension or file.service):
        raise Invalid("no Protobuf file: it has no message")
    return file


def _check(file: FileDescriptorProto, source: Source) -> None:
    """Raises Invalid for a descriptor whose types do not fit together."""
    pool = descriptor_pool.DescriptorPool()
    given = dict(source.references)
    compiled: dict[str, FileDescriptorProto] = {}
    added: set[str] = set()

    def add(one: FileDescriptorProto) -> None:
        for name in one.dependency:
            if name not in added:
                added.add(name)
                add(dependency(name))
        pool.Add(one)

    def dependency(name: str) -> FileDescriptorProto:
        if name not in given:
            return _known(name)
        if name not in compiled and (found := _from_base64(given[name])) is not None:
            found.name = name
            return found
        if name not in compiled:  # one run for all, since each begins with starting the compiler
            texts = {one for one in checked.dependency if one in given and _from_base64(given[one]) is None}
            root = "".join(f"import {quoted(one)};\n" for one in sorted({name, *texts}))
            files = _compile(Source(f'syntax = "proto3";\n{root}', source.references), "--include_imports")
            compiled.update((one.name, one) for one in files)
        return compiled[name]

    checked = FileDescriptorProto()
    checked.CopyFrom(file)
    checked.name = NAME
    if any(name.startswith(NOT_CHECKED) for name in checked.dependency):
        return
    try:
        add(checked)
        pool.FindFileByName(NAME)
    except (TypeError, KeyError, ValueError) as error:
        raise Invalid(f"no Protobuf file: {' '.join(str(error).split())[:500]}") from error


def _known(name: str) -> FileDescriptorProto:
    """An import that needs no reference. Raises Invalid for any other."""
    if not name.startswith(KNOWN):
        raise Invalid(f"no Protobuf file: it imports {name!r}, and no reference has that name")
    try:
        module = importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
    except ImportError:
        raise Invalid(f"no Protobuf file: there is no {name!r}") from None
    file = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)
    file.name = name
    return file


def _compile(source: Source, *arguments: str) -> list[FileDescriptorProto]:
    """What the compiler makes of a text: its file, the last one. It runs in a folder of its own, in a process
    of its own, whose time is a part of the question's."""
    import google.type
    import grpc_tools

    with tempfile.TemporaryDirectory(prefix="raftlog-registry-") as folder:
        for name, text in source.references:
            if (descriptor := _from_base64(text)) is not None:
                text = print_file(descriptor)
            _write(Path(folder, "refs"), name, text)
        _write(Path(folder, "own"), NAME, source.text)
        made = Path(folder, "made")
        includes = [
            Path(folder, "own"),
            Path(folder, "refs"),
            Path(grpc_tools.__path__[0], "_proto"),
            Path(next(iter(google.type.__path__))).parents[1],
        ]
        allowed_s, _ = signal.getitimer(signal.ITIMER_PROF)
        spent_s = _children_s()

        def limit() -> None:
            if allowed_s:
                seconds = math.ceil(allowed_s)
                resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))

        command = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_out={made}"]
        command += [f"--proto_path={one}" for one in includes if one.is_dir()]
        try:
            done = subprocess.run(
                [*command, *arguments, NAME],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PROTOC_S,
                check=False,
                preexec_fn=limit,  # this process has one thread
            )
        except subprocess.TimeoutExpired:
            raise Invalid("the Protobuf compiler did not end") from None
        left_s = signal.getitimer(signal.ITIMER_PROF)[0] - (_children_s() - spent_s)
        if allowed_s and (left_s <= 0 or done.returncode == -signal.SIGXCPU):
            raise Invalid("it is too complex: the Protobuf compiler took too much time")
        if allowed_s:
            signal.setitimer(signal.ITIMER_PROF, left_s)
        if done.returncode:
            said = done.stderr.decode(errors="replace").replace(f"{Path(folder, 'own')}/{NAME}:", "")
            raise Invalid(f"no Protobuf file: {' '.join(said.split())[:500]}")
        return list(FileDescriptorSet.FromString(made.read_bytes()).file)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _write(folder: Path, name: str, text: str) -> None:
    path = Path(folder, name)
    if not path.resolve().is_relative_to(folder.resolve()) or "\0" in name:
        raise Invalid(f"a reference is named {name!r}, which is no path of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Invalid(f"a reference is named {name[:60]!r}: {error.strerror}") from error


def _sort(file: FileDescriptorProto) -> None:
    """Imports by name, fields by number. The order of messages says which one a record is of: it stays."""
    if not file.public_dependency and not file.weak_dependency:
        file.dependency.sort()
    for message in _messages(file):
        message.field.sort(key=lambda field: field.number)
