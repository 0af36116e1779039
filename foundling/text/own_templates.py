"""The chat templates that come with Foundling."""

BEGIN_OF_TEXT = "<|begin_of_text|>"
END_OF_TEXT = "<|end_of_text|>"
PAD = "<|pad|>"
SYSTEM = "<|system|>"
USER = "<|user|>"
ASSISTANT = "<|assistant|>"
END_OF_TURN = "<|end_of_turn|>"
ROLE_TOKENS = (SYSTEM, USER, ASSISTANT, END_OF_TURN)
SPECIAL_TOKENS = (BEGIN_OF_TEXT, END_OF_TEXT, PAD, SYSTEM, USER, ASSISTANT, END_OF_TURN)

# Generation blocks hold what is learned, for readers that ask for it.
FOUNDLING = (
    "{% if bos_token %}{{ bos_token }}{% endif %}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    f"{ASSISTANT}{{% generation %}}{{{{ message['content'] }}}}{END_OF_TURN}{{% endgeneration %}}"
    "{% elif message['role'] == 'user' %}"
    f"{USER}{{{{ message['content'] }}}}{END_OF_TURN}"
    "{% elif message['role'] == 'system' and loop.first %}"
    f"{SYSTEM}{{{{ message['content'] }}}}{END_OF_TURN}"
    "{% else %}{{ raise_exception('a message of role ' ~ message['role'] ~ ' here') }}{% endif %}"
    f"{{% endfor %}}{{% if add_generation_prompt %}}{ASSISTANT}{{% endif %}}"
)

CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
# Source of the format: OpenAI, chatml.md.
CHATML = (
    "{% if bos_token and bos_token != '<|im_start|>' %}{{ bos_token }}{% endif %}"
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ message['content'] }}<|im_end|>{% endif %}{{ '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

OWN = {"foundling": (FOUNDLING, ROLE_TOKENS), "chatml": (CHATML, CHATML_TOKENS)}
"""The source of each, and the tokens that it needs."""
