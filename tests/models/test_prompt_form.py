"""A prompt gives the text of its training row, whichever way a client sends it."""

import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hone.models.errors import BundleCorrupt
from hone.models.manifest import Manifest
from hone.models.prompt_form import PromptForm, Turn
from tests.models.bodies import make_manifest

INSTRUCTION = "Classify the customer's message as bug or praise.\nMessage:\n"
PROMPTS = PromptForm(
    kind="prompt/completion",
    instruction=INSTRUCTION,
    separator="\n\n###",
    leading_space=True,
    stop=" END",
)
SYSTEM = "You sort messages into bug and praise."
OPENING = (Turn("user", "it broke"), Turn("assistant", "bug"))
CHATS = PromptForm(kind="chat", system=SYSTEM, opening=OPENING)

spaces = st.text(" \n\t\r", max_size=3)
words = st.text("ab#->\n :é漢", max_size=12)
instructions = st.sampled_from(["", INSTRUCTION, "Say a # or b:\n\nText:\n", "###\n-> a ->\n"])
separators = st.sampled_from(["", "\n\n###", " ->", "->", "###", "\n\n### =>", " <<>>"])
quick = settings(max_examples=100)


@quick
@given(words, instructions, separators, st.lists(spaces, min_size=4, max_size=4))
def test_shared_parts_and_white_space_may_be_sent_or_not(
    text: str, instruction: str, separator: str, gaps: list[str]
) -> None:
    form = PromptForm(kind="prompt/completion", instruction=instruction, separator=separator)
    bare = form.bare_text(text)
    assume(bare)
    first, second, third, fourth = gaps
    for before in ("", instruction, instruction.replace("\n", "\r\n")):
        for after in ("", separator, separator + "\n\n"):
            sent = first + before + second + text + third + after + fourth
            assert form.bare_text(sent) == bare
            assert form.bare_text([Turn("system", "x"), Turn("user", sent)]) == bare


@quick
@given(words, instructions, separators)
def test_a_bare_text_is_bare(text: str, instruction: str, separator: str) -> None:
    form = PromptForm(kind="prompt/completion", instruction=instruction, separator=separator)
    bare = form.bare_text(text)
    assert form.bare_text(bare) == bare == bare.strip()


turns = st.lists(
    st.builds(Turn, st.sampled_from(["user", "assistant"]), words), min_size=1, max_size=4
)


@quick
@given(turns, st.sampled_from(["", SYSTEM, "Something else."]), spaces, spaces)
def test_a_chats_system_message_and_opening_may_be_sent_or_not(
    chat: list[Turn], system: str, before: str, after: str
) -> None:
    bare = CHATS.bare_text(chat)
    spaced = [Turn(role, before + content + after) for role, content in [*OPENING, *chat]]
    for role in ("system", "developer"):
        assert CHATS.bare_text([Turn(role, system), *spaced]) == bare
        assert CHATS.bare_text([Turn(role, system), *spaced[len(OPENING) :]]) == bare


def test_what_was_taken_off_is_told() -> None:
    reading = PROMPTS.read(f"{INSTRUCTION}it broke\n\n###\n\n")
    assert reading == ("it broke", f"{INSTRUCTION.strip()}\n###")
    chat = CHATS.read([Turn("system", SYSTEM), *OPENING, Turn("user", " thanks ")])
    assert chat == ("thanks", f"{SYSTEM}\nit broke\nbug")
    assert PROMPTS.read("it broke").taken_off == ""


@pytest.mark.parametrize(
    ("separator", "prompt", "bare"),
    [
        (" ->", "a -> b ->", "a -> b"),
        (" ->", "a->", "a->"),
        ("->", "a->->", "a"),
        ("\n\n###", "a ###", "a"),
        ("\n\n###", "### a", "### a"),
        ("", " a ", "a"),
    ],
)
def test_only_what_stands_at_the_end_is_a_separator(separator: str, prompt: str, bare: str) -> None:
    form = PromptForm(kind="prompt/completion", separator=separator)
    assert form.bare_text(prompt) == bare


def test_a_classifier_of_texts_reads_the_last_users_turn_of_a_chat() -> None:
    chat = [Turn("system", "Sort."), *OPENING, Turn("user", "it broke ->"), Turn("assistant", "")]
    assert PromptForm().read(chat) == ("it broke ->", "Sort.\nit broke\nbug")
    form = PromptForm(kind="prompt/completion", separator=" ->")
    assert form.bare_text(chat) == "it broke"
    assert form.bare_text([Turn("system", "Sort.")]) == ""


def test_a_chat_of_several_turns_is_read_as_in_training() -> None:
    chat = [Turn("user", "hello "), Turn("assistant", "yes?"), Turn("user", "it broke")]
    assert CHATS.bare_text(chat) == "user: hello\nassistant: yes?\nuser: it broke"


def test_a_prompt_to_a_classifier_of_chats_may_begin_with_the_system_message() -> None:
    assert CHATS.bare_text(f"{SYSTEM}\n\nit broke") == "it broke"


def test_labels_are_written_as_the_completions_were() -> None:
    assert PROMPTS.completion("bug") == " bug"
    assert CHATS.completion("bug") == "bug"


def test_the_shared_text_is_what_every_request_said() -> None:
    assert PROMPTS.shared_text == INSTRUCTION.strip()
    assert CHATS.shared_text == f"system: {SYSTEM}\nuser: it broke\nassistant: bug"
    assert PromptForm().shared_text == ""


@pytest.mark.parametrize("filling", ["\n", "### ", " ###", "Classify the ", "a", INSTRUCTION])
def test_hostile_prompts_take_one_pass(filling: str) -> None:
    prompt = filling * (2_000_000 // len(filling))
    started = time.process_time()
    PROMPTS.bare_text(prompt)
    PROMPTS.bare_text(f"x{prompt}x")
    assert time.process_time() - started < 2


@pytest.mark.parametrize("form", [PROMPTS, CHATS, PromptForm()])
def test_a_form_survives_in_a_manifest(form: PromptForm) -> None:
    manifest = make_manifest(prompt_form=form.model_dump(mode="json"))
    again = Manifest.from_bytes(manifest.to_bytes())
    assert again.prompt_form == form
    with pytest.raises(BundleCorrupt):
        Manifest.from_bytes(manifest.to_bytes().replace(b'"stop": "', b'"stop": "x'))


def test_a_manifest_may_have_no_form() -> None:
    assert Manifest.from_bytes(make_manifest().to_bytes()).prompt_form is None
