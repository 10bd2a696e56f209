"""Small chat templates that write tool calls as the families of models do."""

HERMES = """\
{%- if tools %}<|im_start|>system
# Tools
{%- for tool in tools %}
{{ tool | tojson }}{% endfor %}<|im_end|>
{% endif -%}
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{%- if message.content %}{{ "\n" + message.content }}{% endif -%}
{%- for call in message.tool_calls or [] %}{{ "\n" }}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

LLAMA = """\
{%- for message in messages -%}
<|start_header_id|>{{ message.role }}<|end_header_id|>

{% if message.tool_calls -%}
{%- if message.tool_calls | length != 1 %}{{ raise_exception("one call at a time") }}{% endif -%}
{%- set call = message.tool_calls[0].function -%}
{"name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}
{%- else -%}
{%- if loop.first and tools %}{{ tools | tojson(indent=4) }}{% endif -%}
{{ message.content }}
{%- endif -%}<|eot_id|>
{%- endfor -%}
{%- if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>

{% endif %}"""

MISTRAL = """\
{{- bos_token }}
{%- for message in messages -%}
{%- if message.role == "user" -%}
{%- if tools is not none %}[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif -%}
[INST] {{ message.content }}[/INST]
{%- elif message.tool_calls is defined -%}
[TOOL_CALLS] [
{%- for call in message.tool_calls -%}
{%- if call.id | length != 9 %}{{ raise_exception("ids have nine letters") }}{% endif -%}
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}, \
"id": "{{ call.id }}"}{{ ", " if not loop.last }}
{%- endfor -%}
]{{ eos_token }}
{%- elif message.role == "tool" -%}
[TOOL_RESULTS] {"content": {{ message.content | tojson }}, "call_id": "{{ message.tool_call_id }}"}\
[/TOOL_RESULTS]
{%- else -%}
{{ " " + message.content + eos_token }}
{%- endif -%}
{%- endfor %}"""
