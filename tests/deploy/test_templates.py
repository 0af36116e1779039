"""The templates for clusters: well-formed, of known fields, with commands that the CLI takes."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

from foundling.base.config import load_toml, override
from foundling.cli import app
from foundling.stages.pretrain import PretrainConfig

DEPLOY = Path(__file__).parents[2] / "deploy"
QUANTITY = {"type": "string", "pattern": r"^[0-9]+([KMGT]i?)?$"}
NAME = {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}


def fields(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    """The schema of an object that has these fields and no others."""
    return {"type": "object", "properties": properties, "required": required or [],
            "additionalProperties": False}  # fmt: skip


def items(schema: dict[str, Any], most: int) -> dict[str, Any]:
    return {"type": "array", "items": schema, "minItems": 1, "maxItems": most}


TEXT, WHOLE, SWITCH = {"type": "string"}, {"type": "integer", "minimum": 1}, {"type": "boolean"}
RESOURCES = {"type": "object", "additionalProperties": QUANTITY}
POD = fields(
    volumes=items(
        fields(
            ["name"],
            name=NAME,
            persistentVolumeClaim=fields(["claimName"], claimName=TEXT),
            emptyDir=fields(medium={"enum": ["", "Memory"]}),
        ),
        128,
    ),
    containers=items(
        fields(
            ["name"],
            name=NAME,
            volumeMounts=items(fields(["name", "mountPath"], name=NAME, mountPath=TEXT), 128),
        ),
        128,
    ),
)
TRAIN_JOB = fields(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "trainer.kubeflow.org/v1alpha1"},
    kind={"const": "TrainJob"},
    metadata=fields(["name"], name=NAME),
    spec=fields(
        ["runtimeRef"],
        runtimeRef=fields(
            ["name"],
            name={"const": "torch-distributed"},
            apiGroup={"const": "trainer.kubeflow.org"},
            kind={"enum": ["ClusterTrainingRuntime", "TrainingRuntime"]},
        ),
        trainer=fields(
            image={**TEXT, "maxLength": 500},
            command=items(TEXT, 128),
            args=items(TEXT, 128),
            env=items(fields(["name"], name=TEXT, value=TEXT), 128),
            numNodes=WHOLE,
            numProcPerNode=WHOLE,
            resourcesPerNode=fields(limits=RESOURCES, requests=RESOURCES),
        ),
        runtimePatches=items(
            fields(
                ["manager"],
                manager={**TEXT, "maxLength": 253},
                trainingRuntimeSpec=fields(
                    template=fields(
                        spec=fields(
                            replicatedJobs=items(
                                fields(
                                    ["name"],
                                    name=NAME,
                                    template=fields(spec=fields(template=fields(spec=POD))),
                                ),
                                100,
                            )
                        )
                    )
                ),
            ),
            16,
        ),
        suspend=SWITCH,
    ),
)
"""Source: kubeflow/trainer, pkg/apis/trainer/v1alpha1/trainjob_types.go (Trainer 2.2)."""
SKY = fields(
    ["name", "resources", "run"],
    name=NAME,
    resources=fields(
        accelerators={"type": "string", "pattern": "^[A-Z0-9]+:[0-9]+$"},
        use_spot=SWITCH,
        disk_size=WHOLE,
        job_recovery=fields(strategy=TEXT, max_restarts_on_errors=WHOLE),
    ),
    num_nodes=WHOLE,
    envs={"type": "object", "additionalProperties": TEXT},
    workdir=TEXT,
    file_mounts={
        "type": "object",
        "additionalProperties": fields(
            ["source", "mode"], source=TEXT, mode={"enum": ["MOUNT", "MOUNT_CACHED", "COPY"]}
        ),
    },
    setup=TEXT,
    run=TEXT,
)
"""Source: SkyPilot's documentation, "Task YAML" and "Managed jobs"."""


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text("utf-8"))


def shell_of(name: str) -> str:
    return (DEPLOY / name).read_text() if name.endswith(".sbatch") else read(name)["run"]


def command_in(shell: str) -> list[str]:
    """What `foundling` is given in a script, with values in place of its variables."""
    joined = shell.replace("\\\n", " ")
    (line,) = (line for line in joined.splitlines() if "-m foundling" in line)
    values = {"CONFIG": "configs/small.toml", "DATA": "data", "RUN": "run", "BUCKET": "bucket"}
    line = re.sub(r"\$\{?(\w+)[^}\"\s/]*\}?", lambda m: values.get(m[1], "1"), line)
    words = shlex.split(line.rstrip(" &"))
    return words[words.index("foundling") + 1 :]


def kubernetes() -> list[str]:
    trainer = read("kubernetes.yaml")["spec"]["trainer"]
    words = [*trainer["command"], *trainer["args"]]
    assert words[0] == "torchrun"
    return words[words.index("foundling") + 1 :]


def ray_script() -> Any:
    spec = importlib.util.spec_from_file_location("ray_train", DEPLOY / "ray_train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ray() -> list[str]:
    line = "pretrain run.toml --data s3://b/data --out /mnt/run"
    script = ray_script()
    assert line in script.__doc__
    command = script.command_of(shlex.split(line))
    assert command[:3] == [sys.executable, "-m", "foundling"]
    assert script.command_of(command[3:]) == command, "the flag is given once"
    return command[3:]


COMMANDS = {
    "slurm": lambda: command_in(shell_of("slurm.sbatch")),
    "kubernetes": kubernetes,
    "skypilot": lambda: command_in(shell_of("skypilot.yaml")),
    "ray": ray,
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_is_one_that_the_cli_takes_and_resumes(name: str) -> None:
    verb, *arguments = COMMANDS[name]()
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    given = command.make_context(verb, arguments, resilient_parsing=False).params
    assert given["resume_if_exists"] is True
    assert given["out"] is not None
    assert given["_data"]
    settings = override(load_toml(DEPLOY.parent / "configs/small.toml"), given["settings"])
    PretrainConfig.parse(settings)


@pytest.mark.parametrize(("name", "schema"), [("kubernetes", TRAIN_JOB), ("skypilot", SKY)])
def test_the_file_has_the_published_fields_and_no_others(name: str, schema: Any) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(read(f"{name}.yaml"), schema)


@pytest.mark.parametrize("name", ["slurm.sbatch", "skypilot.yaml"])
def test_the_shell_is_well_formed(name: str) -> None:
    shell = shell_of(name)
    done = subprocess.run(["bash", "-n"], input=shell, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    code = [line for line in shell.splitlines() if not line.lstrip().startswith("#")]
    assert any(re.match(r"set -e", line) for line in code), "a failed command ends the script"
    for line in code:
        bare = re.sub(r'"[^"]*"', "", line)
        assert not re.search(
            r"(?<![=:\w])\$\w|\$\{", bare.replace("=$", "=").replace("=${", "=")
        ), f"an unquoted variable: {line}"


def test_slurm_is_told_of_the_end_and_starts_again() -> None:
    lines = (DEPLOY / "slurm.sbatch").read_text().splitlines()
    options = dict(re.findall(r"#SBATCH --([\w-]+)(?:=(\S+))?", "\n".join(lines)))
    assert lines[0] == "#!/bin/bash"
    assert options["ntasks-per-node"] == "1", "one torchrun a node"
    assert re.fullmatch(r"B:USR1@\d+", options["signal"]), "to the script alone"
    assert "requeue" in options
    assert "trap again USR1" in lines
    assert "export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in lines, "nodes count restarts apart"
    first = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first:]), (
        "Slurm stops reading there"
    )


def test_processes_have_time_to_save() -> None:
    """torchrun kills them 30 seconds after SIGTERM unless it is told otherwise, pods likewise."""
    shell, name = shell_of("slurm.sbatch"), "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
    patience, notice = re.search(rf"{name}=(\d+)", shell), re.search(r"USR1@(\d+)", shell)
    assert patience is not None
    assert notice is not None
    assert 60 < int(patience[1]) < int(notice[1])
    pod = (DEPLOY / "kubernetes.yaml").read_text()
    grace = re.search(r'terminationGracePeriodSeconds",\n#\s+"value": (\d+)', pod)
    assert grace is not None
    env = {one["name"]: one["value"] for one in read("kubernetes.yaml")["spec"]["trainer"]["env"]}
    assert 60 < int(env[name]) < int(grace[1])


def test_the_commands_of_the_page_are_taken() -> None:
    page = (DEPLOY.parent / "docs/scale.md").read_text("utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line]
    assert len(lines) >= 6
    for line in lines:
        name, *arguments = shlex.split(line)
        assert name == "foundling"
        group = typer.main.get_command(app)
        while isinstance(group, typer.core.TyperGroup):
            group = group.commands[arguments.pop(0)]
        group.make_context(name, arguments)
