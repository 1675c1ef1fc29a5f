"""Files made to hurt: bombs, depth, numbers beyond all bounds, names that a terminal obeys."""

import io
import itertools
import json
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hostile import seeds
from hostile.harness import Case
from hostile.mutants import NAMES

SIMULATE, RUN = ("simulate", "m.onnx"), ("run", "m.onnx", "--backend", "integers")
BUILT_IN = ("simulate", "bert-tiny", "--seq", "8")
SEARCH = ("search", "--space", "s.toml", "--budget", "8", "--population", "8", "--workers", "1")
HUGE = "9" * 401


def cases() -> Iterator[Case]:
    """All of them."""
    yield from _models()
    yield from _external()
    yield from _tables()
    yield from _machines()
    yield from _arrays()
    yield from _tokenizers()
    yield from _runs()


def _models() -> Iterator[Case]:
    def case(name: str, model: onnx.ModelProto) -> Iterator[Case]:
        for command in (SIMULATE, RUN):
            content = model.SerializeToString()
            yield Case(f"{name} {command[0]}", {"m.onnx": content}, command)

    for calls, count in ((2, 40), (9, 60), (1, 3000)):
        yield from case(f"functions {calls}^{count}", _functions(calls, count))
    yield from case("function of itself", _functions(-1, 1))
    small = seeds.models()["mlp"]
    for name in NAMES:
        model = onnx.ModelProto.FromString(small.SerializeToString())
        for node in model.graph.node:
            node.name = name + node.name
            for names in (node.input, node.output):
                names[:] = [word if word in ("x", "y") else name + word for word in names]
        for tensor in model.graph.initializer:
            tensor.name = name + tensor.name
        yield from case(f"names {name[:9]!r}", model)
    deep = helper.make_graph([seeds.node("Identity", "x", "o")], "g", [], [])
    for _ in range(20):
        inner = helper.make_node("If", ["yes"], ["o"], then_branch=deep, else_branch=deep)
        deep = helper.make_graph([inner], "g", [], []) if deep.ByteSize() < 1 << 16 else deep
    nested = seeds.network(seeds.node("If", "yes", "y", then_branch=deep, else_branch=deep),
                           constants={"yes": np.bool_(True)})  # fmt: skip
    yield from case("branches in branches", nested)
    chain = [seeds.node("Tanh", f"t{i}" if i else "x", f"t{i + 1}") for i in range(400)]
    yield from case("a chain", seeds.network(*chain, seeds.node("Relu", "t400", "y")))
    for op_type, extent in (("ConstantOfShape", 1 << 62), ("ConstantOfShape", 1 << 31)):
        many = seeds.network(seeds.node(op_type, "n", "c"), seeds.node("Add", "x c", "y"),
                             constants={"n": np.array([extent, extent])})  # fmt: skip
        yield from case(f"{op_type} {extent}", many)
    tiles = seeds.network(seeds.node("Tile", "x n", "y"),
                          constants={"n": np.array([1 << 40, 1 << 20, 3])})  # fmt: skip
    yield from case("Tile", tiles)
    product = seeds.network(seeds.node("MatMul", "a b", "c"), seeds.node("ReduceSum", "c", "s"),
                            seeds.node("Mul", "x s", "y"),
                            constants={"a": np.ones((1, 1 << 14), np.float32),
                                       "b": np.ones((1 << 14, 1), np.float32)})  # fmt: skip
    yield from case("products of constants", product)


def _functions(calls: int, count: int) -> onnx.ModelProto:
    """`count` functions, each of which calls the one before `calls` times; -1: itself."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    functions = []
    for index in range(count):
        called = f"f{index}" if calls < 0 else f"f{index - 1}"
        named = ["a", *(f"t{i}" for i in range(abs(calls) - 1)), "b"]
        domain = "own" if index or calls < 0 else ""
        body = [
            helper.make_node(called if domain else "Relu", [i], [o], domain=domain)
            for i, o in itertools.pairwise(named)
        ]
        functions.append(helper.make_function("own", f"f{index}", ["a"], ["b"], body, opsets))
    call = seeds.node(f"f{count - 1}", "x", "y", "own")
    return seeds.network(call, functions=tuple(functions))


def _external() -> Iterator[Case]:
    data = np.ones((seeds.WIDTH, seeds.WIDTH), np.float32)
    for name, entries, files in (
        ("missing", {"location": "no.bin"}, {}),
        ("short", {"location": "w.bin"}, {"w.bin": b"1234"}),
        ("beyond", {"location": "w.bin", "offset": "999999999999"}, {"w.bin": data.tobytes()}),
        ("negative", {"location": "w.bin", "offset": "-4"}, {"w.bin": data.tobytes()}),
        ("length", {"location": "w.bin", "length": HUGE}, {"w.bin": data.tobytes()}),
        ("above", {"location": "../w.bin"}, {}),
        ("absolute", {"location": "/etc/hostname"}, {}),
        ("folder", {"location": "."}, {}),
        ("device", {"location": "/dev/zero"}, {}),
        ("long", {"location": "a" * 5000}, {}),
        ("escape", {"location": "\x1b[2J"}, {}),
        ("sound", {"location": "w.bin"}, {"w.bin": data.tobytes()}),
    ):
        tensor = numpy_helper.from_array(data, "w")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.append(onnx.StringStringEntryProto(key=key, value=value))
        model = seeds.network(seeds.node("MatMul", "x w", "y"))
        model.graph.initializer.append(tensor)
        given = {"m.onnx": model.SerializeToString(), **files}
        for command in (SIMULATE, RUN, ("compile", "m.onnx", "-o", "out")):
            yield Case(f"external {name} {command[0]}", given, command)


def _tables() -> Iterator[Case]:
    laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
    )
    text = seeds.ENERGY.decode()
    for name, content in {
        "laughs": laughs, "laughs in tables": laughs + "ERT: {version: 0.4, tables: *j}\n",
        "deep": "[" * 50_000, "deep maps": "{a: " * 900 + "}" * 900, "itself": "&a [*a]",
        "huge": text.replace("0.2", HUGE), "digits": text.replace("0.2", "9" * 5000),
        "infinite": text.replace("0.2", ".inf"), "nan": text.replace("0.2", ".nan"),
        "negative": text.replace("0.2", "-1"), "large": text.replace("0.2", "1e300"),
        "instances": text.replace("0..255", f"0..{HUGE}"), "list": text.replace("0.2", "[1]"),
        "object": "!!python/object/apply:os.system ['true']", "escape": text.replace("mesh", "\\e[2J"),
        "name": text.replace("system.mesh", '"\\x1b[2J\\u202e"'), "empty": "", "null": "\0",
        "tags": "!!binary x", "date": "2001-01-01", "two": text + "---\n" + text,
    }.items():  # fmt: skip
        files = {"t.yaml": content.encode()}
        yield Case(f"energy {name}", files, (*BUILT_IN, "--energy-table", "t.yaml"))
        files = {"t.yaml": content.replace("ERT", "ART").encode()}
        yield Case(f"area {name}", files, (*BUILT_IN, "--area-table", "t.yaml"))
    yield Case("energy latin", {"t.yaml": b"ERT: \xff"}, (*BUILT_IN, "--energy-table", "t.yaml"))


def _machines() -> Iterator[Case]:
    for value in (HUGE, "9" * 5000, "-1", "0", "nan", "inf", "1e3000", "true", '"x"', "[1]",
                  "{a=1}", "[" * 3000, '"\\u001b[2J"', "1979-05-27", '"9999999999G"'):  # fmt: skip
        for field in (
            "dim",
            "scratchpad_bytes",
            "clock_hz",
            "name",
            "preset",
            "dram_latency_cycles",
        ):
            content = f"{field} = {value}\n".encode()
            name = f"machine {field} {value[:9]}"
            yield Case(name, {"m.toml": content}, (*BUILT_IN, "--hw", "m.toml"))
        for section in ("transformer.layers", "transformer.d_ff", "hardware.scratchpad_bytes",
                        "hardware.clock_hz", "constraints.area_mm2", "constraints.sram_timing"):  # fmt: skip
            field = section.split(".")[1]
            space = [
                f"{field} = {value}" if line.startswith(field) else line
                for line in seeds.SPACE.decode().splitlines()
            ]
            content = "\n".join(space).encode()
            yield Case(f"space {section} {value[:9]}", {"s.toml": content}, (*SEARCH, "--out", "o"))


def _arrays() -> Iterator[Case]:
    model = seeds.models()["mlp"].SerializeToString()
    right = np.ones((1, seeds.ROWS, seeds.WIDTH), np.float32)

    def archive(**members: bytes) -> bytes:
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as made:
            for name, content in members.items():
                made.writestr(f"{name}.npy", content)
        return sink.getvalue()

    def saved(**arrays: Any) -> bytes:
        sink = io.BytesIO()
        np.savez_compressed(sink, allow_pickle=True, **arrays)
        return sink.getvalue()

    def array(header: str, data: bytes = b"") -> bytes:
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data

    form = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s,), }"
    for name, content in {
        "sound": saved(x=right), "scalar": saved(x=np.float32(1)), "text": saved(x=np.array("a")),
        "objects": saved(x=np.array([{}], dtype=object)), "nan": saved(x=right * np.nan),
        "other": saved(z=right), "empty": saved(x=right[:0]), "none": saved(),
        "bomb": archive(x=bytes(1 << 28)), "header": archive(x=array(form % HUGE)),
        "depth": archive(x=array("(" * 5000)), "code": archive(x=array("__import__('os')")),
        "sizes": archive(x=array(form % "1000000000000")), "magic": archive(x=b"\x93NUMPY\x09\x00"),
        "zip": b"PK\x03\x04", "npy": right.tobytes(), "nothing": b"",
        "escape": saved(**{"\x1b[2J": right}),
    }.items():  # fmt: skip
        files = {"m.onnx": model, "a.npz": content}
        for option in ("--input", "--calibration"):
            yield Case(f"npz {name} {option}", files, (*RUN, option, "a.npz"))


def _tokenizers() -> Iterator[Case]:
    model = seeds.network(
        seeds.node("Gather", "table input_ids", "h"), seeds.node("MatMul", "h w", "y"),
        constants={"table": np.ones((99, 16), np.float32), "w": np.ones((16, 16), np.float32)},
    )  # fmt: skip
    model.graph.input[0].CopyFrom(
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "seq"])
    )
    word = {"type": "WordLevel", "vocab": {"[UNK]": 3, "a": 1}, "unk_token": "[UNK]"}
    regex = {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "x"}
    for name, content in {
        "sound": json.dumps({"version": "1.0", "model": word}),
        "regex": json.dumps({"version": "1.0", "normalizer": regex, "model": word}),
        "beyond": json.dumps({"version": "1.0", "model": {**word, "vocab": {"[UNK]": 1 << 30}}}),
        "unknown": json.dumps({"version": "1.0", "model": {**word, "unk_token": "no"}}),
        "deep": "[" * 100_000,
        "number": "1" * 9000,
        "null": "null",
        "empty": "",
        "escape": '"\x1b[2J',
    }.items():
        files = {"m.onnx": model.SerializeToString(), "tokenizer.json": content.encode()}
        yield Case(f"tokenizer {name}", files, (*RUN, "--seq", "8", "--text", "a" * 60 + "b"))
    files = {"m.onnx": model.SerializeToString(), "vocab.txt": b"\xff\xfe\x00"}
    yield Case("vocabulary", files, (*RUN, "--seq", "8", "--text", "a"))


def _runs() -> Iterator[Case]:
    """Folders that other commands read."""
    deep, number = "[" * 100_000, '{"inputs": ' + "9" * 5000 + "}"
    for name, content in {"deep": deep, "number": number, "list": "[]", "nan": '{"inputs": NaN}',
                          "text": "\x1b[2J", "none": "", "bytes": "\udcff"}.items():  # fmt: skip
        run = {"run/run.json": content.encode(errors="surrogateescape")}
        for command in (("report", "run"), ("verify", "run"), ("study", "two-stage", "run"),
                        ("sweep", "bert-tiny", "--seq", "8", "--out", "run")):  # fmt: skip
            yield Case(f"folder {name} {command[0]}", run, command)
        table = {"q.csv": run["run/run.json"], "s.toml": seeds.SPACE}
        for file in ("q.csv", "q.parquet"):
            given = {file: table["q.csv"], "s.toml": seeds.SPACE}
            yield Case(f"quality {name} {file}", given, (*SEARCH, "--quality", file, "--out", "o"))
        yield Case(f"start {name}", table, (*SEARCH, "--warm-start", "q.csv", "--out", "o"))
        folder = {"bert/config.json": run["run/run.json"], "bert/model.safetensors": b"\xff" * 99}
        yield Case(f"checkpoint {name}", folder, ("export", "bert", "-o", "m.onnx"))
