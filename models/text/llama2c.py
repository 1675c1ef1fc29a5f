"""The tokenizer file of llama2.c (github.com/karpathy/llama2.c) as tokenizer.json.

The file has the longest token's bytes as int32, then for each token its score, float32, its length, int32,
and its bytes, little endian. Text begins with a space and falls into characters, those that are no token
into bytes; then the neighbours whose union has the best score become one, again and again.
"""

import json
import struct
from pathlib import Path
from typing import Any

from codesign.hw.errors import ModelError

_TOKEN = struct.Struct("<fi")
_REMEDY = "give the .bin that llama2.c writes with tokenizer.py"
SPECIAL = ("<unk>", "<s>", "</s>")
BYTES = tuple(f"<0x{value:02X}>" for value in range(256))


def tokenizer_json(path: Path, vocabulary: int) -> str:
    """The text of tokenizer.json for a model of so many tokens; raises ModelError for another file."""
    tokens, scores = _read(path, vocabulary)
    number = {token: index for index, token in reversed(list(enumerate(tokens)))}
    first = len(SPECIAL) + len(BYTES)
    merged = sorted(range(first, vocabulary), key=lambda index: -scores[index])
    merges = [
        [token[:cut], token[cut:]]
        for token in (tokens[index] for index in merged)
        for cut in range(1, len(token))
        if token[:cut] in number and token[cut:] in number
    ]
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": SPECIAL[0],
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": True,
        "vocab": number,
        "merges": merges,
    }
    return json.dumps(_description(model), ensure_ascii=False, indent=1) + "\n"


def _description(model: dict[str, Any]) -> dict[str, Any]:
    """The document around the pairs that merge: a space before the text, <s> before the tokens."""
    begin = {"id": SPECIAL[1], "type_id": 0}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": index,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for index, token in enumerate(SPECIAL)
        ],
        "normalizer": {"type": "Prepend", "prepend": " "},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": begin}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [
                {"SpecialToken": begin},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}},
            ],
            "special_tokens": {SPECIAL[1]: {"id": SPECIAL[1], "ids": [1], "tokens": [SPECIAL[1]]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": model,
    }


def _read(path: Path, vocabulary: int) -> tuple[list[str], list[float]]:
    """The tokens and their scores."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}: {_REMEDY}") from error
    tokens: list[str] = []
    scores: list[float] = []
    place = 4
    while place < len(data):
        if place + _TOKEN.size > len(data):
            raise ModelError(f"{path} ends within token {len(tokens)}: {_REMEDY}")
        score, length = _TOKEN.unpack_from(data, place)
        place += _TOKEN.size
        if not 0 <= length <= len(data) - place:
            raise ModelError(f"{path}: token {len(tokens)} has {length} bytes: {_REMEDY}")
        try:
            tokens.append(data[place : place + length].decode())
        except UnicodeDecodeError as error:
            raise ModelError(f"{path}: token {len(tokens)} is no UTF-8: {_REMEDY}") from error
        scores.append(score)
        place += length
    if len(tokens) != vocabulary:
        raise ModelError(
            f"{path} has {len(tokens)} tokens, but the model {vocabulary}: give the tokenizer of this model"
        )
    tokens[: len(SPECIAL)] = SPECIAL  # the file's have line breaks around them, for printing
    if tokens[len(SPECIAL) : len(SPECIAL) + len(BYTES)] != list(BYTES):
        raise ModelError(f"{path}: tokens 3 to 258 are not the bytes: {_REMEDY}")
    return tokens, scores
