"""What is trained on, token by token, against what a person would mark by hand.

The tokenizer has one token for each byte. Brackets hold what the loss is on.
"""

from typing import Any

import pytest

from hone.models.errors import InvalidExamples, InvalidInput
from hone.training.generation.conversations import (
    Completion,
    Conversation,
    Message,
    Preference,
    parse_example,
)
from hone.training.generation.encoding import ConversationEncoder, TrainedText, fit
from hone.training.generation.showing import coloured, marked
from tests.training.generation.tiny import byte_tokenizer, train_with_template


def shown(example: dict[str, Any], template: Any = "plain", **options: Any) -> str:
    encoder = ConversationEncoder(byte_tokenizer(), template=template, **options)
    parsed = parse_example(example)
    assert isinstance(parsed, Completion | Conversation)
    return marked(encoder.encode(parsed), byte_tokenizer())


def test_a_completion_is_trained_with_its_end_and_its_prompt_is_read() -> None:
    assert shown({"prompt": "ab", "completion": " c"}) == "<s>|a|b [ |c|</s>]"


def test_a_prompt_may_be_given_a_weight() -> None:
    found = shown({"prompt": "ab", "completion": "c"}, prompt_loss_weight=0.1)
    assert found == "<s> [a|b]*0.1 [c|</s>]"


def test_an_open_ended_example_is_trained_from_its_first_token() -> None:
    assert shown({"prompt": "", "completion": "hi"}) == "<s> [h|i|</s>]"


def test_a_prompt_and_its_completion_as_a_chat() -> None:
    found = shown({"prompt": "q", "completion": "a"}, "chat")
    assert found == ("<s>|<|turn|>|u|s|e|r|⏎|q|</s>|<|turn|>|a|s|s|i|s|t|a|n|t|⏎ [a|</s>]")


CHAT = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "q"},
    {"role": "assistant", "content": "a"},
    {"role": "user", "content": "r"},
    {"role": "assistant", "content": "b"},
]
SYSTEM = "<s>|<|turn|>|s|y|s|t|e|m|⏎|S|</s>"
ASKED = "<|turn|>|u|s|e|r|⏎|{}|</s>|<|turn|>|a|s|s|i|s|t|a|n|t|⏎"


def test_all_answers_of_a_chat_are_trained() -> None:
    first, second = ASKED.format("q"), ASKED.format("r")
    assert shown({"messages": CHAT}) == f"{SYSTEM}|{first} [a|</s>] {second} [b|</s>]"


def test_an_answer_of_weight_0_is_read_alone() -> None:
    messages = [dict(m) for m in CHAT]
    messages[2]["weight"] = 0  # type: ignore[assignment]
    first, second = ASKED.format("q"), ASKED.format("r")
    assert shown({"messages": messages}) == f"{SYSTEM}|{first}|a|</s>|{second} [b|</s>]"


def test_an_answer_counts_by_its_weight() -> None:
    messages = [dict(m) for m in CHAT]
    messages[2]["weight"] = 0.5  # type: ignore[assignment]
    first, second = ASKED.format("q"), ASKED.format("r")
    expected = f"{SYSTEM}|{first} [a|</s>]*0.5 {second} [b|</s>]"
    assert shown({"messages": messages}) == expected


def test_an_assistant_may_speak_first() -> None:
    messages = [{"role": "assistant", "content": "h"}, *CHAT[1:3]]
    opening = ASKED.rpartition("|</s>|")[2]
    found = shown({"messages": messages})
    assert found == f"<s>|{opening} [h|</s>] {ASKED.format('q')} [a|</s>]"


def test_what_follows_the_last_answer_is_not_read() -> None:
    messages = [*CHAT[:3], {"role": "user", "content": "thanks"}]
    assert shown({"messages": messages}) == f"{SYSTEM}|{ASKED.format('q')} [a|</s>]"


def test_preferences_share_a_prompt_and_no_earlier_answer_counts() -> None:
    example = parse_example(
        {
            "input": {"messages": CHAT[:4]},
            "preferred_output": [{"role": "assistant", "content": "x"}],
            "non_preferred_completion": [{"role": "assistant", "content": "y"}],
        }
    )
    assert isinstance(example, Preference)
    encoder = ConversationEncoder(byte_tokenizer(), template="chat")
    chosen, rejected = encoder.encode_pair(example)
    before = f"{SYSTEM}|{ASKED.format('q')}|a|</s>|{ASKED.format('r')}"
    assert marked(chosen, byte_tokenizer()) == f"{before} [x|</s>]"
    assert marked(rejected, byte_tokenizer()) == f"{before} [y|</s>]"


def test_a_prompt_has_the_tokens_that_a_server_reads() -> None:
    encoder = ConversationEncoder(byte_tokenizer(), template="plain")
    text = encoder.encode(Completion("say it ->", " it"))
    prompt = encoder.prompt_ids("say it ->")
    assert list(text.ids[: len(prompt)]) == prompt
    assert not any(text.weights[: len(prompt)])


def test_parts_of_a_character_are_shown_as_bytes() -> None:
    found = shown({"prompt": "3°", "completion": " é"})
    assert found == r"<s>|3|\xc2|\xb0 [ |\xc3|\xa9|</s>]"


def test_colours_mark_what_brackets_do() -> None:
    encoder = ConversationEncoder(byte_tokenizer(), template="plain", prompt_loss_weight=0.5)
    text = coloured(encoder.encode(Completion("ab", "c")), byte_tokenizer())
    assert text.plain == "<s>|a|b|c|</s>|"
    backgrounds = [str(span.style) for span in text.spans if "on" in str(span.style)]
    assert backgrounds == ["black on yellow"] * 2 + ["black on green"] * 2


def test_long_examples_are_cut_or_left_out_and_counted() -> None:
    texts = [TrainedText((1, 2, 3, 4), (0, 0, 1, 1), 4), TrainedText((1, 2), (0, 1), 2)]
    cut = fit(texts, longest=3, policy="cut")
    assert [text.ids for text in cut.texts] == [(1, 2, 3), (1, 2)]
    assert (cut.left_out, cut.truncated, cut.rows) == (0, 1, [0, 1])
    out = fit(texts, longest=3, policy="leave_out")
    assert (out.left_out, out.truncated, out.rows) == (1, 0, [1])


def test_an_example_of_which_nothing_to_learn_is_left_is_left_out() -> None:
    found = fit([TrainedText((1, 2, 3), (0, 0, 1), 3)], longest=2, policy="cut")
    assert (len(found), found.left_out) == (0, 1)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "a"}, "has neither"),
        ({"prompt": "a", "completion": " "}, "'completion' is missing, empty"),
        ({"prompt": 1, "completion": "b"}, "'prompt' is missing, empty or not a string"),
        ({"messages": []}, "no list of messages"),
        ({"messages": [{"role": "user", "content": "a"}]}, "no assistant's message to learn"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "role is none of"),
        ({"messages": [{**CHAT[2], "weight": 2}]}, "weight is not between 0 and 1"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "prefers an answer to itself"),
        ({"prompt": CHAT[1:2], "chosen": CHAT[2:3], "rejected": CHAT[4:]}, "'preferred_output'"),
        ({"chosen": CHAT[1:3], "rejected": CHAT[3:]}, "between chats are written with 'input'"),
        (
            {
                "input": {"messages": CHAT[1:2]},
                "preferred_output": CHAT[2:3],
                "non_preferred_output": [{"role": "assistant", "tool_calls": [{"id": "a"}]}],
            },
            "has tools in a preference",
        ),
        ({"input": {}, "preferred_output": []}, "without a list of messages"),
    ],
)
def test_a_row_that_cannot_be_learned_from_says_why(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_example(row)


def test_a_template_that_rewrites_earlier_turns_is_refused() -> None:
    tokenizer = train_with_template("{{ messages | length }}{{ messages[-1]['content'] }}")
    encoder = ConversationEncoder(tokenizer, template="chat")
    with pytest.raises(InvalidExamples, match="rewrites earlier turns"):
        encoder.encode(Conversation(tuple(Message(m["role"], m["content"]) for m in CHAT)))


def test_a_base_without_a_chat_template_cannot_be_trained_on_chats() -> None:
    with pytest.raises(InvalidInput, match="has no chat template"):
        ConversationEncoder(train_with_template(None), template="chat")
