"""A real model under a schema and with a tool."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from fastapi.testclient import TestClient
from tool_templates import TOOLS

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "born": {"type": "integer", "minimum": 1500, "maximum": 2000},
        "field": {"enum": ["physics", "music", "painting"]},
    },
    "required": ["name", "born", "field"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 40}, "unit": {"enum": ["C", "F"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}


@pytest.mark.real
def test_a_real_model_follows_a_schema_and_calls_a_tool(
    open_client: Callable[..., TestClient], real_model: Callable[[str], Path], tmp_path: Path
) -> None:
    template = tmp_path / "tools.jinja"
    template.write_text(TOOLS["tagged"].template)
    client = open_client([real_model("llama")], template=str(template))

    def ask(question: str, **body: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": question}]
        asked = {"messages": messages, "temperature": 0, "max_tokens": 80, **body}
        answer = client.post("/v1/chat/completions", json=asked)
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"][0]

    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    answer = ask(
        'Describe Albert Einstein as JSON with the keys "name", "born" and "field".',
        response_format=form,
    )
    assert answer["finish_reason"] == "stop"
    person = json.loads(answer["message"]["content"])
    jsonschema.validate(person, PERSON)
    assert "Einstein" in person["name"]

    tool = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
    answer = ask(
        "What is the weather in Paris?",
        tools=[tool],
        tool_choice="required",
        parallel_tool_calls=False,
    )
    assert answer["finish_reason"] == "tool_calls"
    [call] = answer["message"]["tool_calls"]
    arguments = json.loads(call["function"]["arguments"])
    jsonschema.validate(arguments, WEATHER)
    assert arguments["city"] == "Paris"
