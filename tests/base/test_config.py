"""Settings in and out of TOML, and errors that help."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundling.base.config import ConfigError, Section, dump_toml, load_toml, override
from foundling.stages.pretrain import PretrainConfig

plain = (
    st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.booleans()
)
keys = st.from_regex(r"[A-Za-z0-9_-]+", fullmatch=True)


@given(st.dictionaries(keys, plain | st.lists(plain) | st.dictionaries(keys, plain)))
def test_toml_comes_back_as_it_was(values: dict[str, object]) -> None:
    filled = {k: v for k, v in values.items() if v != {}}  # an empty table says nothing
    assert tomllib.loads(dump_toml(filled)) == filled


def test_a_whole_configuration_comes_back_as_it_was() -> None:
    config = PretrainConfig.parse({"training": {"steps": 7}}).resolved()
    assert PretrainConfig.parse(tomllib.loads(dump_toml(config.values()))).resolved() == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trainin": {}}, 'trainin: no such setting (.*). Did you mean "training"'),
        ({"training": {"step": 1}}, 'training.step: no such setting (.*). Did you mean "steps"'),
        ({"training": {"steps": 0}}, "training.steps = 0: input should be greater than 0."),
        ({"training": {"steps": True}}, "training.steps = true: expected a number, not true or"),
        ({"schedule": {"final": False}}, "schedule.final = false: expected a number, not true or"),
        ({"training": {"steps": "many"}}, 'training.steps = "many": input should be a valid int'),
        ({"validation": {"sampling": {"top_p": 2}}}, "validation.sampling.top_p = 2"),
        ({"schedule": {"kind": "linear"}}, "schedule.kind"),
        ({"optimizer": {"learning_rate": float("inf")}}, "optimizer.learning_rate = Infinity"),
    ],
)
def test_a_wrong_setting_names_the_way_out(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        PretrainConfig.parse(values)
    for part in message.split("(.*)"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_section_given_in_part_keeps_the_default_of_its_place() -> None:
    class Inner(Section):
        kind: str = "general"
        rate: float = 1.0
        size: int = 3

    class Outer(Section):
        inner: Inner = Inner(kind="special", rate=0.5)

    assert Outer.parse({"inner": {"size": 4}}).inner == Inner(kind="special", rate=0.5, size=4)
    assert Outer.parse({"inner": {"rate": 2.0}}).inner == Inner(kind="special", rate=2.0)
    with pytest.raises(ConfigError, match="inner"):
        Outer.parse({"inner": {"no": 1}})


def test_overrides_read_toml_values_and_make_sections() -> None:
    values = {"training": {"steps": 1}}
    changed = override(values, ["training.steps=5", "model.rung=attention", "a.b.c=[1, 2]"])
    assert changed == {
        "training": {"steps": 5},
        "model": {"rung": "attention"},
        "a": {"b": {"c": [1, 2]}},
    }
    assert values == {"training": {"steps": 1}}
    plain = override(values, {"a": "1", "training.steps": None, "b.c": [{"d": "😀"}]})
    assert plain == {"a": "1", "training": {"steps": None}, "b": {"c": [{"d": "😀"}]}}


def test_a_value_where_a_section_belongs_is_one_line() -> None:
    with pytest.raises(ConfigError, match="b = 3 is a value, not a section"):
        override({"a": {"b": 3}}, {"a.b.c": 1})
    with pytest.raises(ConfigError, match="task = 3: expected a section"):
        PretrainConfig.parse(3, "task")  # type: ignore[arg-type]


@pytest.mark.parametrize("assignment", ["steps", "=1", "training.steps.more=1"])
def test_a_broken_override_is_refused(assignment: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        override({"training": {"steps": 1}}, [assignment])


def test_files_that_are_not_toml_are_refused(tmp_path) -> None:
    (tmp_path / "bad.toml").write_text("steps = ")
    (tmp_path / "latin.toml").write_bytes(b"a = '\xff'")
    for name in ("bad.toml", "latin.toml", "missing.toml", "."):
        with pytest.raises(ConfigError, match=r"toml|folder"):
            load_toml(tmp_path / name)
