from pathlib import Path

import pytest

from deblur.config import Cluster, Watch, load_job, parse_job, with_settings
from deblur.errors import ConfigError
from deblur.limits import parse_bytes
from deblur.template import TEMPLATE

MINIMAL = {"archive": "a", "sources": [{"path": "frames"}]}


def test_the_template_is_a_valid_job_and_its_comments_name_real_keys(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(TEMPLATE)
    job = load_job(path)
    assert job.sources[0].path == str(tmp_path / "frames")
    commented = [
        line[2:].split("=")[0].strip()
        for line in TEMPLATE.splitlines()
        if line.startswith("# ") and "=" in line and "[[" not in line
    ]
    sections = [job, job.sources[0], job.motion, job.restore, job.tiling, job.limits, job.decode, job.cluster]
    sections += [job.publish, job.hooks, Watch(path="x")]
    known = {key for section in sections for key in type(section).model_fields}
    assert set(commented) <= known


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sources": [{"path": "x", "exposure_fraction": 1.5}]}, r"sources\.0\.exposure_fraction: .*1\.5"),
        ({"sources": [{"path": "x", "exposure_fraction": -0.5}]}, r"exposure_fraction: .*-0\.5"),
        ({"tilling": {}}, r"tilling: unknown key \(did you mean 'tiling'\?\)"),
        ({"tiling": {"window": 100}}, r"window = 100 is no multiple of 64: try 128"),
        ({"tiling": {"window": 128, "unit": 1088}}, r"unit = 1088 is no multiple of window = 128: try 1152"),
        (
            {"tiling": {"window": 96, "unit": 96 * 32, "shard": 1024}},
            r"window = 96 is no multiple of 64: try 128",
        ),
        ({"limits": {"memory": "4 parsecs"}}, r"limits\.memory: .*write it like '4 GiB'"),
        ({"cluster": {"kind": "address"}}, r"address = 'tcp://host:port' go together"),
        ({"sources": []}, r"sources: .*at least 1"),
    ],
)
def test_each_fault_is_one_line_that_names_the_key(change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse_job(MINIMAL | change, name="job.toml")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_job_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: no such job file"):
        load_job(tmp_path / "nowhere.toml")


def test_broken_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text("archive = ")
    with pytest.raises(ConfigError, match=r"job\.toml: not valid TOML"):
        load_job(path)


def test_settings_change_one_key_and_refuse_others() -> None:
    job = parse_job(MINIMAL)
    assert with_settings(job, {"restore.iterations": 7}).restore.iterations == 7
    with pytest.raises(
        ConfigError, match=r"restore\.iteration: no such setting \(did you mean 'restore\.iterations'\?\)"
    ):
        with_settings(job, {"restore.iteration": 7})


def _leaves(value: object, prefix: str = "") -> list[str]:
    if isinstance(value, dict):
        return [leaf for key, part in value.items() for leaf in _leaves(part, f"{prefix}{key}.")]
    return [prefix[:-1]]


def test_every_setting_changes_the_digest() -> None:
    job = parse_job(MINIMAL)
    other = {
        "archive": "b", "sources": [{"path": "y"}], "motion.method": "other", "restore.method": "wiener",
        "restore.iterations": 3, "restore.regularisation": 0.5, "restore.strength": 0.5,
        "restore.network": "mine.onnx", "restore.provider": "CUDA",
        "tiling.window": 512, "tiling.chunk": 128,
        "tiling.shard": 512, "tiling.unit": 4096, "tiling.frames": 3, "outputs": ["gradients"], "limits.memory": 10**9,
        "limits.broken": 0.5, "limits.max_pixels": 9, "limits.max_bytes": 9, "limits.max_pages": 9, "limits.max_ratio": 9,
        "limits.links": "anywhere", "decode.isolation": False, "decode.memory": 9, "decode.seconds": 9,
        "cluster.kind": "serial", "cluster.workers": 3, "watch": [{"path": "z"}],
        "publish.by": "person", "publish.quality": 0.5, "publish.drop": 0.5, "hooks.command": ["x"],
        "hooks.webhook": "https://x", "hooks.mail": "x", "hooks.smtp": "x:1",
    }  # fmt: skip
    # keys that only some kinds of cluster have: tests/test_clusters.py
    skipped = {f"cluster.{key}" for key in Cluster.model_fields} - {"cluster.kind", "cluster.workers"}
    assert set(_leaves(job.model_dump(mode="json"))) - skipped <= set(other)
    for key, value in other.items():
        assert with_settings(job, {key: value}).digest != job.digest, key


def test_sizes_are_read_as_people_write_them() -> None:
    assert [parse_bytes(text) for text in ("4 GiB", "500MB", "1024", "1.5 KiB")] == [
        2**32,
        5 * 10**8,
        1024,
        1536,
    ]
