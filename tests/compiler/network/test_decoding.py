"""A decoder token after token: one cache in DRAM, the same numbers on every length and backend."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from llama2c_files import SIZES
from small_decoder import compiler, opened, written

from codesign.compiler.kernels.attention.attention_kernel import AttentionProblem
from codesign.compiler.network.decoder_file import DecoderFile
from codesign.compiler.network.decoding import Decoding, Recomputing, StepProgram
from codesign.compiler.network.inference import Functional, Integers, Network
from codesign.compiler.network.tensor_map import angles_map
from codesign.compiler.rewrite.given_scales import Codes
from codesign.hw.errors import CodesignError
from codesign.search.generation import programs

IDS = [1, 262, 7, 11]
MORE = [5, 9, 200, 4, 31, 77, 8]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("decoder"), "--past", "dynamic")


@pytest.fixture(scope="module")
def file(path: Path) -> DecoderFile:
    return opened(path)


def scores(decoding: Decoding | Recomputing, ids: Sequence[int] = IDS) -> np.ndarray:
    """Those behind a prompt, and behind each of MORE."""
    return np.stack([decoding.prompt(ids), *(decoding.next(token) for token in MORE)])


def test_backends_agree_to_the_bit_and_are_near_float(path: Path, file: DecoderFile) -> None:
    """Near float on six texts, of which backends are compared on the first."""
    made: dict[tuple[int, int], Network] = {}

    def once(past: int, seq: int, codes: Mapping[str, Codes]) -> Network:
        key = past, seq
        made[key] = made.get(key) or compiler(path, file)(past, seq, codes)
        return made[key]

    drawn = np.random.default_rng(5).integers(3, 270, (5, len(IDS) - 1)).tolist()
    cosines = []
    for ids in (IDS, *([IDS[0], *others] for others in drawn)):
        found = scores(Decoding(file, once, Integers, (8, 16), (4,)), ids)
        wanted = file.run([*ids, *MORE])[file.scores][0, len(IDS) - 1 :].astype(np.float64)
        norms = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
        cosines.append((found * wanted).sum(axis=1) / norms)
        if ids is IDS:
            machine = scores(Decoding(file, once, Functional, (8, 16), (4,)), ids)
            np.testing.assert_array_equal(found, machine)
    assert np.min(cosines[0]) > 0.95 and np.mean(cosines) > 0.985, cosines


def test_a_program_serves_every_place_of_its_length(path: Path, file: DecoderFile) -> None:
    """Compiled once each, and each again where the cache of the one before is full."""
    made: list[tuple[int, int]] = []

    def counted(past: int, seq: int, codes: object) -> Network:
        made.append((past, seq))
        return compiler(path, file)(past, seq, codes)  # type: ignore[arg-type]

    decoding = Decoding(file, counted, Integers, (8, 16), (4,))
    scores(decoding)
    assert made == [(0, 4), (7, 1), (15, 1)]
    assert [one.slots for one in decoding.spent] == [4, *[8] * 4, *[16] * 3]
    assert [one.tokens for one in decoding.spent] == [4, *[1] * 7]
    assert all(one.chip_cycles > 0 and one.host_cycles > 0 for one in decoding.spent)


def test_appending_writes_a_row_and_no_other(path: Path, file: DecoderFile) -> None:
    """In the bytes of DRAM, where a token's row lies in each block of columns."""
    step = StepProgram(file, compiler(path, file)(7, 1, {}), 8)
    backend = Functional(step.network)
    step.start(backend)
    config, matrices = step.network.plan.config, step.network.matrices
    assert len(step.caches) == 4 and set(step.network.kept) == step.caches.keys()
    for place, token in enumerate(IDS):
        before = backend.machine.dram.copy()
        step.scores(backend, token, place)
        for tensor in step.caches:
            begin = backend.places[tensor]
            columns = np.prod(matrices.pack(tensor, backend.read(tensor), config).shape)
            blocks = [d[begin : begin + columns].reshape(-1, 8, config.dim)
                      for d in (before, backend.machine.dram)]  # fmt: skip
            changed = (blocks[0] != blocks[1]).any(axis=(0, 2))
            assert changed[place] and changed.sum() == 1, (tensor, place)
    for tensor in step.caches:
        rows = backend.read(tensor)
        assert rows[: len(IDS)].any(axis=1).all() and not rows[len(IDS) :].any()


def test_a_group_reads_its_keys_from_the_cache_and_the_host_copies_new_ones(
    path: Path, file: DecoderFile
) -> None:
    """No cycle of the host but of look-ups, the mask and the bytes of new keys and values."""
    step = StepProgram(file, compiler(path, file)(7, 1, {}), 8)
    plan, scales = step.network.plan, step.network.quantized.scales
    attentions = [each.work for each in plan.steps if each.kind == "attention"]
    problems = [work.problem for work in attentions]
    assert [(p.heads, p.shared) for p in problems if isinstance(p, AttentionProblem)] == 2 * [
        (6, 3)
    ]
    assert {name for work in attentions for name in work.inputs[1:3]} == step.caches.keys()
    for tensor, cache in step.caches.items():
        (new,) = (name for name in cache.new if name in scales)
        np.testing.assert_array_equal(scales[new], scales[tensor])
    d, heads, kept = SIZES[0], SIZES[3], SIZES[4]
    row, layers, slots = d // heads * kept, SIZES[2], 8
    angles = 2 * 4 * d // heads  # of queries and keys, four bytes a column
    assert step.host_cycles == d + 4 * slots + layers * (angles + 2 * row)
    assert not any("computes" in note or "rearranges" in note for note in step.network.host)


def test_what_lies_behind_the_tokens_is_never_seen(path: Path, file: DecoderFile) -> None:
    """The scores are the same with anything in the free places."""
    step = StepProgram(file, compiler(path, file)(7, 1, {}), 8)
    found = []
    for fill in (0, 99):
        backend = Integers(step.network)
        step.start(backend)
        for tensor in step.caches:
            backend.write(tensor, np.full_like(backend.read(tensor), fill))
        found.append([step.scores(backend, token, place) for place, token in enumerate(IDS)])
    np.testing.assert_array_equal(found[0], found[1])


def test_lengths_share_the_codes_of_the_cache(path: Path, file: DecoderFile) -> None:
    short = StepProgram(file, compiler(path, file)(7, 1, {}), 8)
    long = StepProgram(file, compiler(path, file)(15, 1, short.codes), 16)
    assert short.codes == long.codes
    full, empty = Integers(short.network), Integers(long.network)
    short.start(full)
    for place, token in enumerate(IDS):
        short.scores(full, token, place)
    long.start(empty, short.held(full))
    for tensor in short.caches:
        np.testing.assert_array_equal(empty.read(tensor)[:8], full.read(tensor))


def test_a_file_without_a_cache_is_run_anew_for_every_token(tmp_path: Path) -> None:
    path = written(tmp_path)
    file = opened(path)
    assert not file.past
    decoding = Recomputing(file, compiler(path, file), Integers, (8, 16))
    found = scores(decoding)
    wanted = file.run([*IDS, *MORE])[file.scores][0, len(IDS) - 1 :]
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.97
    assert [one.slots for one in decoding.spent] == [*[8] * 5, *[16] * 3]


def test_a_prompt_of_a_file_that_takes_one_token_at_a_time(tmp_path: Path) -> None:
    path = written(tmp_path, "--past", "dynamic", "--seq", "1")
    file = opened(path)
    decoding = Decoding(file, compiler(path, file), Integers, (16,), (4,))
    found = scores(decoding)
    assert [one.tokens for one in decoding.spent] == [1] * (len(IDS) + len(MORE))
    wanted = file.run([*IDS, *MORE])[file.scores][0, len(IDS) - 1 :]
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.97


def test_rotations_are_kernels_that_turn_by_the_angles_of_each_place(
    path: Path, file: DecoderFile
) -> None:
    """Their table in DRAM is of the token that is run: cosines, and sines with the sign of the column."""
    step = StepProgram(file, compiler(path, file)(7, 1, {}), 8)
    quantized, program = step.network.quantized, step.network.program
    turned = angles_map(step.network)
    assert len(turned) == 4  # queries and keys of two layers
    assert all(program.kernels[one.kernel].body for one in turned)
    assert "the host looks up the angles of 4 rotations, by places that are an input" in (
        step.network.host
    )
    backend = Functional(step.network)
    step.start(backend)
    rates = 10_000.0 ** -(np.arange(2) / 2)  # of heads of four columns
    for place, token in enumerate(IDS):
        step.scores(backend, token, place)
        angle = np.repeat(place * rates, 2)
        wanted = np.stack((np.cos(angle), np.sin(angle) * np.array([-1, 1, -1, 1])))
        for one in turned:
            begin = backend.places[one.region]
            dim = step.network.plan.config.dim
            parts = backend.machine.dram[begin : begin + 2 * 2 * dim].view(np.int8)
            coarse, fine = parts.astype(np.int64).reshape(2, 2, dim)[:, :, :4]
            np.testing.assert_allclose((128 * coarse + fine) * one.step, wanted, atol=one.step)
    assert sum(1 for each in quantized.steps.values() if each.angle_step) == 4


def test_angles_of_other_pairs_than_calibration_saw_are_refused(
    path: Path, file: DecoderFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At place 0 nothing turns, so that a sample there says of no pair where it lies."""
    monkeypatch.setattr(programs, "step_samples", lambda *_: [file.step(3, 0, file.empty(7))] * 3)
    step = StepProgram(file, compiler(path, file)(7, 1, {}), 8)
    backend = Integers(step.network)
    step.start(backend)
    step.scores(backend, 1, 0)
    with pytest.raises(CodesignError, match="does not compute a rotation of pairs of columns"):
        step.scores(backend, 7, 1)
