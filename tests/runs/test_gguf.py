"""Models go out to GGUF and come back; `transformers`' own reader agrees."""

import json
from pathlib import Path

import pytest
import torch
from gguf_models import CONFIGS, call, make, tensors

from foundling.models.gguf_files import GgufFile
from foundling.runs.gguf import export_gguf, import_gguf
from foundling.runs.run import load_model


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_comes_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    folder = make(tmp_path / "model", CONFIGS[name])
    export_gguf(folder, tmp_path / "model.gguf", "f32")
    import_gguf(tmp_path / "model.gguf", tmp_path / "back")
    before, after = tensors(folder), tensors(tmp_path / "back")
    assert before.keys() == after.keys()
    for tensor in before:
        # Gemma's norms are stored as 1 + w, and lose w's last bits.
        lost = 2**-22 if "gemma" in name and tensor.endswith("norm.weight") else 0
        assert (before[tensor] - after[tensor]).abs().max() <= lost, tensor
    ours, _ = load_model(folder)
    theirs, _ = load_model(tmp_path / "back")
    tokens = torch.arange(0, 40).view(2, 20)
    same = {"atol": 1e-5 if "gemma" in name else 0, "rtol": 0}
    torch.testing.assert_close(ours.logits(ours(tokens)), theirs.logits(theirs(tokens)), **same)
    if name not in ("mistral", "phi3"):  # a Llama now; factors of fp32
        before, after = (json.loads((path / "config.json").read_text())
                         for path in (folder, tmp_path / "back"))  # fmt: skip
        assert {key: before[key] for key in after} == after


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "qwen3", "gemma3"])
@pytest.mark.filterwarnings("ignore")
def test_transformers_reads_the_same_model(tmp_path: Path, name: str) -> None:
    from transformers import AutoModelForCausalLM

    # It reads no head dimension but the usual one, and no biases of Llama.
    usual = {"qwen3": {"head_dim": 128}, "gemma3": {"head_dim": 256, "query_pre_attn_scalar": 256}}
    folder = make(tmp_path / "model", {**CONFIGS[name], **usual.get(name, {})})
    export_gguf(folder, tmp_path / "model.gguf", "f32")
    peer = AutoModelForCausalLM.from_pretrained(
        str(tmp_path), gguf_file="model.gguf", dtype=torch.float32
    )
    ours, _ = load_model(folder)
    tokens = torch.arange(0, 40).view(2, 20)
    with torch.no_grad():
        torch.testing.assert_close(
            ours.eval().logits(ours(tokens)), peer(tokens).logits, atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize(("kind", "error"), [("f16", 1e-3), ("bf16", 8e-3), ("q8_0", 8e-3),
                                             ("q4_0", 0.14)])  # fmt: skip
def test_fewer_bits_are_as_near_as_they_can_be(tmp_path: Path, kind: str, error: float) -> None:
    """`error`: of the largest value of a block of 32."""
    folder = make(tmp_path / "model", CONFIGS["llama"])
    export_gguf(folder, tmp_path / "model.gguf", kind)
    import_gguf(tmp_path / "model.gguf", tmp_path / "back")
    after = tensors(tmp_path / "back")
    for name, before in tensors(folder).items():
        if before.ndim == 1:
            assert torch.equal(before, after[name])
        else:
            blocks = (before - after[name]).abs().view(-1, 32).amax(1)
            assert (blocks <= error * before.view(-1, 32).abs().amax(1)).all(), name
            assert not torch.equal(before, after[name])


def test_rows_that_fill_no_block_are_halves(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", {**CONFIGS["qwen3"], "hidden_size": 48})
    export_gguf(folder, tmp_path / "model.gguf", "q8_0")
    kinds = {
        name: t.tensor_type.name for name, t in GgufFile(tmp_path / "model.gguf").tensors.items()
    }
    assert kinds["blk.0.attn_q.weight"] == "F16"  # rows of 48
    assert kinds["blk.0.ffn_down.weight"] == "Q8_0"  # rows of 96
    assert kinds["blk.0.attn_norm.weight"] == "F32"


def test_four_bits_leave_eight_to_the_embedding(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", CONFIGS["llama untied with biases"])
    export_gguf(folder, tmp_path / "model.gguf", "q4_0")
    kinds = {
        name: t.tensor_type.name for name, t in GgufFile(tmp_path / "model.gguf").tensors.items()
    }
    assert kinds["token_embd.weight"] == kinds["output.weight"] == "Q8_0"
    assert kinds["blk.1.ffn_up.weight"] == "Q4_0"


def test_weights_may_come_back_in_fewer_bits(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", CONFIGS["llama"])
    export_gguf(folder, tmp_path / "model.gguf", "f32")
    import_gguf(tmp_path / "model.gguf", tmp_path / "back", "bf16")
    before = tensors(folder)
    for name, after in tensors(tmp_path / "back").items():
        assert after.dtype == torch.bfloat16
        assert torch.equal(after, before[name].bfloat16())
    assert json.loads((tmp_path / "back" / "config.json").read_text())["dtype"] == "bfloat16"


def test_the_verbs_go_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, file = make(tmp_path / "model", CONFIGS["qwen3"]), tmp_path / "model.gguf"
    assert call("export", folder, "--type", "f32", "--out", file, "--json") == 0
    assert json.loads(capsys.readouterr().out)["num_bytes"] == file.stat().st_size
    assert call("import", file, "--out", tmp_path / "back", "--json") == 0
    assert json.loads(capsys.readouterr().out)["vocab_size"] == 300
    assert call("export", folder, "--type", "q3", "--out", tmp_path / "other.gguf") == 2
    assert "--type q3: no such type (f32, f16, bf16, q8_0, q4_0)" in capsys.readouterr().err
