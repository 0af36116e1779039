"""Chat templates of our own wording that call tools in each of the forms that models use."""

from chat_templates import IM, Family

_TURNS = """{%- if tools %}
{{- '<|im_start|>system\\nTools:' }}
{%- for tool in tools %}{{- ' ' + tool | tojson }}{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- for m in messages %}
{%- if m.role == 'assistant' %}
{{- '<|im_start|>assistant\\n' }}
THOUGHTS
{{- m.content }}
CALLS
{{- '<|im_end|>\\n' }}
{%- elif m.role == 'tool' %}
{{- '<|im_start|>user\\nIt says: ' + m.content + '<|im_end|>\\n' }}
{%- else %}
{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\nBEGUN' }}{%- endif %}"""


def _turns(calls: str, thoughts: str = "", begun: str = "") -> str:
    return _TURNS.replace("CALLS", calls).replace("THOUGHTS", thoughts).replace("BEGUN", begun)


_LOOP = "{%- for call in m.tool_calls or [] %}{%- set call = call.function %}"
_TAGGED = (
    _LOOP
    + """{%- if m.content or not loop.first %}{{- '\\n' }}{%- endif %}
{{- '<call>\\n{"name": "' + call.name + '", "arguments": ' + call.arguments | tojson }}
{{- '}\\n</call>' }}{%- endfor %}"""
)
_THOUGHTS = """{%- if m.reasoning_content is defined and m.reasoning_content %}
{{- '<think>\\n' + m.reasoning_content.strip() + '\\n</think>\\n\\n' }}{%- endif %}"""
_LISTED = """{%- if m.tool_calls %}{{- '[CALLS] [' }}{%- for call in m.tool_calls %}
{%- if call.id is not defined or call.id | length != 9 %}
{{- raise_exception('ids have nine letters') }}{%- endif %}
{{- (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' }}
{%- if not loop.last %}{{- ', ' }}{%- endif %}{%- endfor %}{{- ']' }}{%- endif %}"""
_BARE = """{%- if m.tool_calls %}
{%- if m.tool_calls | length > 1 %}{{- raise_exception('one call at a time') }}{%- endif %}
{%- set call = m.tool_calls[0].function %}
{{- '{"name": "' + call.name + '", "parameters": ' + call.arguments | tojson + '}' }}{%- endif %}"""
_FENCED = """{%- if m.tool_calls %}{{- '<|calls|>' }}
{%- for call in m.tool_calls %}
{{- '<|call|>function<|sep|>' + call.function.name + '\\n```json\\n' }}
{{- call.function.arguments | tojson(separators=(',', ':')) + '\\n```<|/call|>' }}
{%- if not loop.last %}{{- '\\n' }}{%- endif %}
{%- endfor %}{{- '<|/calls|>' }}{%- endif %}"""
_NAMED = _LOOP + "{{- '[CALLS]' + call.name + '[ARGS]' + call.arguments | tojson }}{%- endfor %}"
_XML = (
    _LOOP
    + """{{- '<function=' + call.name + '>' }}
{%- for key in call.arguments %}{{- '<p=' + key + '>' ~ call.arguments[key] }}{%- endfor %}
{{- '</function>' }}{%- endfor %}"""
)
_ELEMENTS = (
    _LOOP
    + """{%- if m.content or not loop.first %}{{- '\\n' }}{%- endif %}
{{- '<call>\\n<function=' + call.name + '>\\n' }}
{%- for key in call.arguments %}{%- set value = call.arguments[key] %}
{{- '<argument=' + key + '>\\n' }}
{{- value if value is string else value | tojson }}
{{- '\\n</argument>\\n' }}{%- endfor %}
{{- '</function>\\n</call>' }}{%- endfor %}"""
)
_ATTRIBUTES = (
    _LOOP
    + """{{- '<do what="' + call.name + '">' }}
{%- for key in call.arguments %}{%- set value = call.arguments[key] %}
{{- '<with name="' + key + '">' + (value if value is string else value | tojson) + '</with>' }}
{%- endfor %}{{- '</do>' }}{%- endfor %}"""
)
_PYTHON = """{%- if m.tool_calls %}{{- '[' }}
{%- for call in m.tool_calls %}{%- set call = call.function %}
{{- call.name + '(' }}
{%- for key in call.arguments %}{{- key + '=' + call.arguments[key] | tojson }}
{%- if not loop.last %}{{- ', ' }}{%- endif %}{%- endfor %}
{{- ')' }}{%- if not loop.last %}{{- ', ' }}{%- endif %}{%- endfor %}
{{- ']' }}{%- endif %}"""
_BEGUN_PYTHON = _PYTHON.replace("'['", "'<|run|>['").replace("']'", "']<|ran|>'")


def _family(
    template: str, special: tuple[str, ...] = (), others: tuple[str, ...] = (), kind: str = "bytes"
) -> Family:
    settings = {"bos_token": None, "eos_token": IM[2], "pad_token": IM[0], "add_bos_token": False}
    return Family(kind, (*IM, *special), settings, template, others)


TOOLS = {
    "tagged": _family(_turns(_TAGGED)),
    "thinking": _family(
        _turns(_TAGGED, _THOUGHTS), others=("<think>", "</think>", "<call>", "</call>")
    ),
    "begun": _family(_turns(_TAGGED, begun="<think>\\n") + "{# <think> </think> #}"),
    "secret": _family(_turns(_TAGGED, _THOUGHTS), special=("<think>", "</think>")),
    "listed": _family(_turns(_LISTED), special=("[CALLS]",)),
    "bare": _family(_turns(_BARE)),
    "fenced": _family(
        _turns(_FENCED), special=("<|calls|>", "<|call|>", "<|sep|>", "<|/call|>", "<|/calls|>")
    ),
    "named": _family(_turns(_NAMED), special=("[CALLS]", "[ARGS]")),
}
"""Those whose calls can be read."""
SPELLED = {
    "elements": _family(_turns(_ELEMENTS, _THOUGHTS)),
    "attributes": _family(_turns(_ATTRIBUTES)),
    "python": _family(_turns(_PYTHON)),
    "begun python": _family(_turns(_BEGUN_PYTHON), special=("<|run|>", "<|ran|>")),
}
"""Those whose calls are XML or Python."""
UNREADABLE = _family(_turns(_XML))
