"""Every family that we open, small and random, with `transformers` as the oracle."""

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from foundling.models import interchange
from foundling.models.batch import BatchView
from foundling.models.language_model import LanguageModel
from foundling.models.layouts import LAYOUTS

VOCAB, CONTEXT, WINDOW = 67, 24, 5
SHAPE = {
    "vocab_size": VOCAB, "max_position_embeddings": CONTEXT, "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 8,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}
FULL, SLIDING = "full_attention", "sliding_attention"
GEMMA = {**SHAPE, "head_dim": 12, "sliding_window": WINDOW, "query_pre_attn_scalar": 20}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama 3 scaling": ("llama", {**SHAPE, "rope_parameters": LLAMA3}),
    "llama linear": ("llama", {**SHAPE, "rope_parameters": LINEAR}),
    "llama attention biases": ("llama", {**SHAPE, "attention_bias": True}),
    "qwen3 biases": ("qwen3", {**SHAPE, "head_dim": 12, "attention_bias": True}),
    "qwen2 some windows": (
        "qwen2",
        {**SHAPE, "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2},
    ),
    "gemma 3": ("gemma3_text", {**GEMMA, "layer_types": [SLIDING, SLIDING, FULL]}),
    "gemma 3 long": (
        "gemma3_text",
        {
            **GEMMA,
            "num_hidden_layers": 7,
            "attention_bias": True,
            "hidden_activation": "gelu",
            "rope_parameters": {FULL: LINEAR, SLIDING: {"rope_type": "default"}},
        },
    ),
    "gemma 3 no window": ("gemma3_text", {**GEMMA, "layer_types": [FULL] * 3}),
}
PHI = {**SHAPE, "sliding_window": None}
LONG = {
    "rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 0.5,
    "short_factor": [1.0, 1.5], "long_factor": [1.25, 3.0], "original_max_position_embeddings": 8,
    "factor": 3.0,
}  # fmt: skip
NEOX = {**SHAPE, "num_key_value_heads": 4}
GRANITE = {
    **SHAPE, "embedding_multiplier": 12.0, "residual_multiplier": 0.22, "logits_scaling": 6.0,
    "attention_multiplier": 0.2,
}  # fmt: skip
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 3.0,
    "original_max_position_embeddings": 8,
}
FAMILIES |= {
    "gemma 2": ("gemma2", {**GEMMA, "layer_types": None}),
    "gemma 2 tight caps": (
        "gemma2",
        {**GEMMA, "attn_logit_softcapping": 1.5, "final_logit_softcapping": 4.0},
    ),
    "smollm 3": ("smollm3", {**SHAPE, "num_hidden_layers": 4}),
    "smollm 3 window": (
        "smollm3",
        {
            **SHAPE,
            "no_rope_layers": [0, 1, 1],
            "use_sliding_window": True,
            "sliding_window": WINDOW,
            "attention_bias": True,
            "tie_word_embeddings": False,
        },
    ),
    "smollm 3 yarn": ("smollm3", {**SHAPE, "num_hidden_layers": 4, "rope_parameters": YARN}),
    "olmo 2": ("olmo2", SHAPE),
    "olmo 2 biases": ("olmo2", {**SHAPE, "attention_bias": True, "rms_norm_eps": 1e-3}),
    "granite": ("granite", GRANITE),
    "granite tied, biases": (
        "granite",
        {**GRANITE, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    ),
    "phi 3": ("phi3", PHI),
    "phi 3 window": ("phi3", {**PHI, "sliding_window": WINDOW, "tie_word_embeddings": True}),
    "phi 3 long": (
        "phi3",
        {**PHI, "original_max_position_embeddings": 8, "rope_parameters": LONG},
    ),
    "neox": ("gpt_neox", NEOX),
    "neox in turn, no attention bias": (
        "gpt_neox",
        {
            **NEOX,
            "use_parallel_residual": False,
            "attention_bias": False,
            "hidden_act": "gelu_new",
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 2e4,
                "partial_rotary_factor": 1.0,
            },
        },
    ),
    "llama yarn": (
        "llama",
        {**SHAPE, "rope_parameters": {**YARN, "beta_fast": 2.0, "beta_slow": 0.5}},
    ),
    "llama yarn, scaled otherwise": (
        "qwen3",
        {
            **SHAPE,
            "head_dim": 16,
            "rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.3, "truncate": False},
        },
    ),
    "llama dynamic": (
        "llama",
        {
            **SHAPE,
            "max_position_embeddings": 8,
            "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 3.0},
        },
    ),
}
every_family = pytest.mark.parametrize("case", FAMILIES)


@pytest.fixture(autouse=True)
def quiet_transformers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`transformers` may warn of itself; our own warnings stay errors."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(transformers|huggingface_hub|torch\.jit)\b")
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of each case as `transformers` saves it, with weights away from their start."""
    import transformers

    made: dict[str, Path] = {}

    def make(case: str) -> Path:
        if case not in made:
            name, settings = FAMILIES[case]
            torch.manual_seed(0)
            config = transformers.AutoConfig.for_model(name, **settings)
            model = transformers.AutoModelForCausalLM.from_config(config)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter += 0.2 * torch.randn_like(parameter)
            made[case] = tmp_path_factory.mktemp("model")
            model.save_pretrained(made[case])
        return made[case]

    return make


def some_tokens(rows: int = 3, time: int = CONTEXT) -> torch.Tensor:
    return torch.randint(VOCAB, (rows, time), generator=torch.Generator().manual_seed(1))


def theirs(folder: Path, dtype: torch.dtype = torch.float32, attention: str = "eager") -> Any:
    """Soft-caps need `eager`; `sdpa` is the kernel that we use too."""
    import transformers

    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, attn_implementation=attention, dtype=dtype
    )
    assert not any(info.values()), info
    return model.eval()


@torch.no_grad()
def logits_of(model: Any, tokens: torch.Tensor, view: BatchView | None = None) -> torch.Tensor:
    if isinstance(model, LanguageModel):
        return model.eval().logits(model.hidden(tokens, view))
    return model(tokens, use_cache=False).logits.float()


def assert_same(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 1e-4) -> None:
    difference = (ours - theirs).abs().max().item()
    print(f"max difference {difference:.1e} of logits up to {theirs.abs().max().item():.1f}")
    assert theirs.std() > 0.1, "the logits must say something"
    assert difference < tolerance


def test_every_architecture_has_a_case_here_or_among_the_older_ones() -> None:
    older = {"gpt2", "llama", "mistral", "qwen2", "qwen3"}
    assert {name for name, _ in FAMILIES.values()} | older == set(LAYOUTS)


@every_family
@pytest.mark.parametrize("time", [7, CONTEXT])
def test_logits_are_those_of_transformers(
    case: str, time: int, folders: Callable[[str], Path]
) -> None:
    tokens = some_tokens(time=time)
    ours = interchange.load(folders(case))
    assert_same(logits_of(ours, tokens), logits_of(theirs(folders(case)), tokens))


@every_family
def test_what_we_write_is_opened_to_the_same_logits_and_weights(
    case: str, folders: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokens, original = some_tokens(), theirs(folders(case))
    ours = interchange.load(folders(case))
    caplog.clear()
    interchange.save(ours, tmp_path)
    again = theirs(tmp_path)
    assert caplog.text == ""
    assert again.config.model_type == FAMILIES[case][0]
    assert torch.equal(logits_of(again, tokens), logits_of(original, tokens))
    assert interchange.load(tmp_path).spec == ours.spec
    again.save_pretrained(tmp_path / "theirs")  # and what they make of ours
    assert interchange.load(tmp_path / "theirs").spec == ours.spec


@every_family
def test_bf16_differs_no_more_than_their_own(case: str, folders: Callable[[str], Path]) -> None:
    tokens, folder = some_tokens(), folders(case)
    exact = logits_of(theirs(folder), tokens)
    noise = (logits_of(theirs(folder, torch.bfloat16), tokens) - exact).abs()
    ours = (logits_of(interchange.load(folder).bfloat16(), tokens) - exact).abs()
    print(f"mean difference {ours.mean():.1e} beside their {noise.mean():.1e}")
    assert ours.mean() < 1.1 * noise.mean()
    assert ours.max() < 2 * noise.max()  # of 5,000 heavy-tailed differences


@every_family
def test_streamed_equals_whole(case: str, folders: Callable[[str], Path]) -> None:
    model, tokens = interchange.load(folders(case)).double().eval(), some_tokens()
    for portions in ([1] * CONTEXT, [7, 1, 10, 6]):
        state = model.new_state(len(tokens), CONTEXT)
        stop = 0
        for part in tokens.split(portions, dim=1):
            stop += part.shape[1]
            with torch.no_grad():
                streamed = model.logits(model.hidden(part, state=state))
            whole = logits_of(model, tokens[:, :stop])[:, -part.shape[1] :]
            torch.testing.assert_close(streamed, whole, rtol=0, atol=1e-10)


@every_family
def test_packed_documents_and_branches_are_read_as_alone(
    case: str, folders: Callable[[str], Path]
) -> None:
    model, tokens = interchange.load(folders(case)).double().eval(), some_tokens(1)
    lengths = (13, 7, 4)
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    numbers = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))[None]
    packed = logits_of(model, tokens, BatchView(positions, numbers))
    alone = [logits_of(model, part) for part in tokens.split(lengths, dim=1)]
    torch.testing.assert_close(packed, torch.cat(alone, 1), rtol=0, atol=1e-10)
    # A stem of 10 tokens with branches of 7 each.
    tree = torch.cat((torch.arange(17), torch.arange(10, 17)))[None]
    until = torch.cat((torch.full((10,), 24), torch.full((7,), 17), torch.full((7,), 24)))[None]
    branched = logits_of(model, tokens, BatchView(tree, seen_until=until))
    for start in (10, 17):
        branch = torch.cat((tokens[:, :10], tokens[:, start : start + 7]), 1)
        expected = logits_of(model, branch)[:, 10:]
        torch.testing.assert_close(branched[:, start : start + 7], expected, rtol=0, atol=1e-10)


@every_family
def test_a_model_of_others_learns(case: str, folders: Callable[[str], Path]) -> None:
    model, tokens = interchange.load(folders(case)).train(), some_tokens()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(5):
        logits = model.logits(model.hidden(tokens[:, :-1]))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1


OLDER: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    (
        "llama 3 scaling",
        lambda c: c.update(
            rope_theta=5e5, rope_scaling={k: v for k, v in LLAMA3.items() if k != "rope_theta"}
        ),
    ),
    ("llama linear", lambda c: c.update(rope_scaling={"type": "linear", "factor": 4.0})),
    (
        "gemma 3 long",
        lambda c: c.update(
            rope_theta=1e4,
            rope_local_base_freq=1e4,
            rope_scaling={"rope_type": "linear", "factor": 4.0},
            sliding_window_pattern=6,
            layer_types=None,
        ),
    ),
]


@pytest.mark.parametrize(("case", "change"), OLDER)
def test_older_spellings_are_read(
    case: str,
    change: Callable[[dict[str, Any]], object],
    folders: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    config = json.loads((folders(case) / "config.json").read_text())
    del config["rope_parameters"]
    change(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").symlink_to(folders(case) / "model.safetensors")
    new, old = interchange.load(folders(case)), interchange.load(tmp_path)
    assert new.spec == old.spec
    assert_same(logits_of(old, some_tokens()), logits_of(theirs(tmp_path), some_tokens()))


@pytest.mark.real
@pytest.mark.parametrize("model_type", ["llama", "gemma3_text"])
def test_a_real_model_gives_the_logits_of_transformers(
    model_type: str, real_model: Callable[[str], Path]
) -> None:
    folder = real_model(model_type)
    tokens = torch.arange(600)[None] * 7 + 100  # longer than Gemma's window of 512
    ours = logits_of(interchange.load(folder, torch.float32), tokens)
    assert_same(ours, logits_of(theirs(folder, attention="sdpa"), tokens))
