"""What a preset resolves to, keys, near misses, run directories and archives."""

import json
import subprocess
import sys

import pytest
import yaml

from benchmark.base.errors import UserError
from benchmark.base.files import atomic_write, read_model
from benchmark.data import refer
from benchmark.runs import archive
from benchmark.runs.opened import Opened
from benchmark.runs.preset import PRESETS, Preset, preset_names, read_preset
from benchmark.runs.rundir import RunDir, all_runs, find_run
from benchmark.runs.spec import RunSpec
from benchmark.runs.unpacking import unpack
from tests.helpers import tiny_matrix, tiny_spec


def test_every_shipped_preset_is_valid_and_says_what_its_numbers_mean():
    for name in preset_names():
        assert isinstance(read_preset(name), Preset)
        head = (PRESETS / f"{name}.yaml").read_text().split("description")[0]
        assert "What these numbers mean" in head and "do not mean" in head


@pytest.mark.parametrize("wrong", ["missing", None, 3, "text", [], {}])
@pytest.mark.parametrize("field", [*RunSpec.model_fields])
def test_a_spec_with_a_wrong_field_is_refused_in_one_sentence(boxes, field, wrong):
    """Whoever reads specs, of runs or of studies, says which field it is."""
    values = tiny_spec(boxes)[0].model_dump(mode="json")
    values = {**values, field: wrong}
    if wrong == "missing":
        del values[field]
    try:
        read_model(RunSpec, values, "the spec")
    except UserError as error:
        assert "Traceback" not in str(error) and len(str(error).splitlines()) == 1


def test_the_matrix_is_the_product_of_its_axes(boxes):
    found = tiny_matrix(boxes, methods=("cris", "lavt"), seeds=(0, 1, 2))
    assert len(found.specs) == 2 * 2 * 3 == len({spec.key for spec in found.specs})


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"methods": ("lvat",)}, "method 'lvat' is not known: did you mean lavt"),
        ({"strategies": ("maskrs",)}, "strategy 'maskrs' is not known: did you mean maskris"),
        ({"variants": ("tny",)}, "variant of cris 'tny' is not known: did you mean tiny"),
        ({"datasets": ("refcocoo",)}, "'refcocoo' is not known: did you mean refcoco"),
        (
            {"recipes": {"cris": {"epoch": 3}}},
            "recipe of cris: field 'epoch' is not known: did you mean epochs",
        ),
        (
            {"recipes": {"cris": {"batch_size": 6, "micro_batch": 4}}},
            "micro_batch 4 must divide batch_size 6",
        ),
        ({"strategy": {"patch_size": 10}}, "10"),
        (
            {"strategy": {"patchsize": 8}},
            "strategy setting 'patchsize' is not known: did you mean patch_size",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(boxes, changes, message):
    with pytest.raises(UserError, match=message):
        tiny_matrix(boxes, **changes)


def test_the_key_is_the_science_and_nothing_else(boxes, tmp_path):
    spec, _ = tiny_spec(boxes)
    text = json.dumps(spec.model_dump(mode="json"))
    for foreign in (str(boxes), "cpu", "threads", "workers", "device", "sqlite"):
        assert foreign not in text
    changed = [
        spec.model_copy(update={"seed": 1}),
        spec.model_copy(update={"data_sha256": "0"}),
        spec.model_copy(update={"method_revision": 99}),
        spec.model_copy(update={"weights": "other"}),
        spec.model_copy(update={"recipe": spec.recipe.model_copy(update={"precision": "bf16"})}),
        spec.model_copy(update={"recipe": spec.recipe.model_copy(update={"micro_batch": 2})}),
        spec.model_copy(
            update={
                "strategy": spec.strategy.model_copy(update={"batchnorm_in_masked_pass": False})
            }
        ),
        spec.model_copy(update={"strategy": spec.strategy.model_copy(update={"revision": 99})}),
    ]
    assert len({spec.key, *(other.key for other in changed)}) == len(changed) + 1
    assert spec.model_copy().key == spec.key


def test_a_spec_survives_its_file(boxes, tmp_path):
    for spec in tiny_matrix(boxes).specs:
        run = RunDir(tmp_path / spec.key)
        run.create(spec)
        assert run.spec() == spec and run.spec().key == run.key
        yaml.safe_load((run.path / "spec.yaml").read_text())


def test_other_data_than_the_runs_are_refused(boxes):
    spec, places = tiny_spec(boxes)
    with pytest.raises(UserError, match="are not those of the run"):
        Opened(places).run(spec.model_copy(update={"data_sha256": "0" * 64}))


def test_a_damaged_spec_is_named(tmp_path):
    run = RunDir(tmp_path / "broken")
    run.path.mkdir()
    (run.path / "spec.yaml").write_text("method: [unclosed")
    with pytest.raises(UserError, match="spec.yaml is damaged"):
        run.spec()


def test_a_run_is_worked_on_by_one_process(boxes, tmp_path):
    spec, _ = tiny_spec(boxes)
    run = RunDir(tmp_path / spec.key)
    with run.claim():
        assert run.claimed()
        with pytest.raises(UserError, match="another process"), RunDir(run.path).claim():
            pass
    assert not run.claimed()


def test_a_run_that_is_held_is_waited_for(tmp_path):
    """The second command says that it waits, and goes on once the first has ended."""
    run = RunDir(tmp_path / "a-key")
    hold = (
        "import sys; from pathlib import Path; from benchmark.runs.rundir import RunDir\n"
        "with RunDir(Path(sys.argv[1])).claim():\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(run.path)]
    said = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with run.claim(lambda message: (said.append(message), holder.stdin.close())):
            assert run.claimed()
    assert said == ["run a-key is being worked on by another process: wait for it."]


def test_only_the_holder_of_a_run_writes_its_status(boxes, tmp_path):
    spec, _ = tiny_spec(boxes)
    run = RunDir(tmp_path / spec.key)
    with run.claim():
        run.create(spec)
        assert not (run.path / "status.json").exists()
    run.create(spec)
    assert run.status().state == "planned"


def test_a_run_that_died_reads_as_planned(boxes, tmp_path, monkeypatch):
    spec, _ = tiny_spec(boxes)
    run = RunDir(tmp_path / spec.key)
    run.create(spec)
    with run.claim():
        run.write_status("running", step=3)
        assert run.status().state == "running"
    assert run.status().state == "planned" and run.status().step == 3
    run.write_status("running", host="another machine", step=4)
    assert run.status().state == "running"
    monkeypatch.setattr("benchmark.runs.rundir.STALE_SECONDS", -1)
    assert run.status().state == "planned" and run.status().step == 4


def test_a_cut_last_line_of_metrics_is_left_out(tmp_path):
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    run.log(1, 0, {"loss": 0.5})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "ep')
    assert [line["step"] for line in run.metrics()] == [1]


def test_find_run_takes_beginnings_and_names_near_misses(boxes, tmp_path):
    with pytest.raises(UserError, match="there are no runs"):
        find_run(tmp_path, "cris")
    for spec in tiny_matrix(boxes).specs:
        RunDir(tmp_path / spec.key).create(spec)
    keys = [run.key for run in all_runs(tmp_path)]
    assert find_run(tmp_path, keys[0][:-2]).key == keys[0]
    assert find_run(tmp_path, str(tmp_path / keys[1])).key == keys[1]
    with pytest.raises(UserError, match="fits 2 runs"):
        find_run(tmp_path, "lavt")
    with pytest.raises(UserError, match="run 'lavt-tny' is not known"):
        find_run(tmp_path, "lavt-tny")


def test_write_aside_leaves_no_half_file(tmp_path):
    target = tmp_path / "file"
    target.write_text("before")

    def broken(aside):
        aside.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left"):
        atomic_write(target, broken)
    assert target.read_text() == "before" and list(tmp_path.iterdir()) == [target]


def test_pack_and_unpack(boxes, tmp_path):
    specs = tiny_matrix(boxes).specs
    for spec in specs:
        run = RunDir(tmp_path / "runs" / spec.key)
        run.create(spec)
        (run.path / "state").mkdir()
        (run.path / "state" / "latest.pt").write_bytes(b"resume point")
        (run.path / "best.safetensors").write_bytes(b"weights")
        (run.path / "records").mkdir()
        (run.path / "records" / "val.parquet").write_bytes(bytes(3000))
    shown = tmp_path / "runs" / "examples" / "plan"
    shown.mkdir(parents=True)
    (shown / "examples.json").write_text("[]")
    (shown / ".examples.json.7").write_text("[")
    archives = archive.pack(tmp_path / "runs", tmp_path / "out", 20_000)
    assert len(archives) > 1 and all(path.stat().st_size <= 20_000 for path in archives)
    assert unpack(archives, tmp_path / "there").new == len(specs)
    for spec in specs:
        files = {
            str(p.relative_to(tmp_path / "there" / spec.key))
            for p in (tmp_path / "there" / spec.key).rglob("*")
            if p.is_file()
        }
        assert files == {"spec.yaml", "status.json", "records/val.parquet"}
    assert [path.name for path in (tmp_path / "there/examples/plan").iterdir()] == ["examples.json"]
    assert unpack(archives, tmp_path / "there").new == 0
    with pytest.raises(UserError, match="no archive"):
        unpack([tmp_path / "missing.tar.gz"], tmp_path / "there")
    (tmp_path / "bad.tar.gz").write_bytes(b"not an archive")
    with pytest.raises(UserError, match="damaged"):
        unpack([tmp_path / "bad.tar.gz"], tmp_path / "there")
    with pytest.raises(UserError, match="allow more with --megabytes"):
        archive.pack(tmp_path / "runs", tmp_path / "out", 100)


def test_a_plan_reads_data_once_and_looks_at_their_files_once(boxes, tmp_path, monkeypatch):
    """However many runs there are: a plan of 12 once looked at every image 13 times."""
    calls = {"read": 0, "digest": 0}
    read, digest = refer.read_json, refer.content_digest

    def counted(name, function):
        def count(*arguments):
            calls[name] += 1
            return function(*arguments)

        return count

    monkeypatch.setattr(refer, "read_json", counted("read", read))
    monkeypatch.setattr(refer, "content_digest", counted("digest", digest))
    matrix = tiny_matrix(boxes, tmp_path / "runs", seeds=(0, 1))
    assert len(matrix.specs) == 24
    for spec in matrix.specs:
        matrix.opened.run(spec)
    assert calls == {"read": 1, "digest": 1}
